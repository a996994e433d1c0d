//! The rules. Each returns what breaks it, in words that say where it is and what to do.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::tree::{Import, Tree};

/// Floors from the ground up: those of one set are of one height.
pub(crate) struct Floors {
    /// The folder whose files and folders are the floors; empty for `src/` itself.
    pub(crate) folder: &'static str,
    pub(crate) sets: &'static [&'static [&'static str]],
    /// Files of the folder above all floors.
    pub(crate) above: &'static [&'static str],
    /// The name of the constant, for messages.
    pub(crate) table: &'static str,
}

impl Floors {
    /// The path of a file below the folder of these floors.
    fn below<'f>(&self, file: &'f str) -> Option<&'f str> {
        if self.folder.is_empty() { Some(file) } else { file.strip_prefix(self.folder)?.strip_prefix('/') }
    }

    /// The floor of a file, `None` above all floors.
    fn floor<'f>(&self, file: &'f str) -> Option<&'f str> {
        let below = self.below(file).filter(|below| !self.above.contains(below))?;
        Some(below.split('/').next().unwrap_or(below).trim_end_matches(".rs"))
    }

    fn height(&self, floor: &str) -> Option<usize> {
        self.sets.iter().position(|set| set.contains(&floor))
    }

    /// A floor imports only floors below it, and each file is on a floor.
    pub(crate) fn violations(&self, tree: &Tree) -> Vec<String> {
        let code = tree.files.iter().filter(|file| !file.test).map(|file| file.name.as_str());
        let floors = code.filter_map(|file| self.floor(file)).collect::<BTreeSet<_>>();
        let unknown = floors.into_iter().filter(|floor| self.height(floor).is_none());
        let unknown = unknown.map(|floor| format!("`{floor}`")).collect::<Vec<_>>().join(", ");
        let unknown = (!unknown.is_empty()).then(|| {
            format!(
                "src/{}: on no floor: {unknown}. Add each to `{}` in tests/floors/main.rs, in the lowest set that is above \
                 all that it imports.",
                self.folder, self.table
            )
        });
        unknown.into_iter().chain(tree.imports.iter().filter_map(|import| self.violation(tree, import))).collect()
    }

    fn violation(&self, tree: &Tree, import: &Import) -> Option<String> {
        let [from, to] = [import.from, import.to].map(|file| tree.files[file].name.as_str());
        self.below(to)?;
        let own = self.floor(from)?;
        let height = self.height(own)?;
        let place = at(tree, import);
        let Some(floor) = self.floor(to) else {
            return Some(format!(
                "{place}, which is above all floors. Move the item to the lowest floor that uses it."
            ));
        };
        if floor == own || self.height(floor)? < height {
            return None;
        }
        let below = self.sets[..height].iter().flat_map(|set| set.iter());
        let below = below.map(|floor| format!("`{floor}`")).collect::<Vec<_>>().join(", ");
        let may = if below.is_empty() { "no other floor".to_owned() } else { format!("only {below}") };
        Some(format!(
            "{place}. The floor `{own}` may import {may}. Move the item to a floor below both, or let `{floor}` pass in \
             what `{own}` needs: a value, a closure or a trait's implementation."
        ))
    }
}

/// `src/a.rs:1 imports ...`
fn at(tree: &Tree, import: &Import) -> String {
    let [from, to] = [import.from, import.to].map(|file| &tree.files[file].name);
    format!("src/{from}:{} imports `{}` of src/{to}", import.line, import.path)
}

/// Longer cycles that are listed, by their files alone.
const MOST_LISTED: usize = 20;

/// Imports by the importing file, then by the imported one.
type Edges<'t> = BTreeMap<usize, BTreeMap<usize, Vec<&'t Import>>>;

/// Files that import each other, directly or through others: the shortest cycle through each import, the shortest first.
/// Those that share an import with one before may go with it, so that they are listed in short.
pub(crate) fn cycles(tree: &Tree) -> Vec<String> {
    let mut edges = Edges::new();
    for import in tree.imports.iter().filter(|import| !import.name_only) {
        edges.entry(import.from).or_default().entry(import.to).or_default().push(import);
    }
    let mut cycles = BTreeMap::new();
    for (from, targets) in &edges {
        for cycle in targets.keys().filter_map(|to| shortest_way(&edges, *to, *from)) {
            let mut cycle = cycle;
            let lowest = (0..cycle.len()).min_by_key(|at| &tree.files[cycle[*at]].name).unwrap_or(0);
            cycle.rotate_left(lowest);
            let names = cycle.iter().map(|file| &tree.files[*file].name).collect::<Vec<_>>();
            cycles.insert((cycle.len(), names), cycle);
        }
    }
    let (mut violations, mut others, mut covered) = (Vec::new(), Vec::new(), BTreeSet::new());
    for cycle in cycles.into_values() {
        let name = |file: &usize| format!("src/{}", tree.files[*file].name);
        let files = cycle.iter().chain(&cycle[..1]).map(name).collect::<Vec<_>>().join(" -> ");
        let steps = cycle.iter().zip(cycle.iter().cycle().skip(1)).collect::<Vec<_>>();
        if steps.iter().any(|(from, to)| covered.contains(&(**from, **to))) {
            others.push(format!("\n    {files}"));
            continue;
        }
        let lines = steps.iter().flat_map(|(from, to)| &edges[from][to]);
        violations.push(lines.fold(files, |text, import| format!("{text}\n    {}", at(tree, import))));
        covered.extend(steps.iter().map(|(from, to)| (**from, **to)));
    }
    if !others.is_empty() {
        let listed = others.iter().take(MOST_LISTED).cloned().collect::<String>();
        violations
            .push(format!("{} more share an import with one of these, the shortest first:{listed}", others.len()));
    }
    violations
}

fn shortest_way(edges: &Edges<'_>, from: usize, to: usize) -> Option<Vec<usize>> {
    let mut before = BTreeMap::from([(from, from)]);
    let mut queue = VecDeque::from([from]);
    while let Some(file) = queue.pop_front() {
        if file == to {
            let back = std::iter::successors(Some(to), |file| Some(before[file]).filter(|_| *file != from));
            let mut way = back.collect::<Vec<_>>();
            way.reverse();
            return Some(way);
        }
        for next in edges.get(&file).into_iter().flat_map(BTreeMap::keys) {
            if !before.contains_key(next) {
                before.insert(*next, file);
                queue.push_back(*next);
            }
        }
    }
    None
}

/// Files with more than `most` lines of code.
pub(crate) fn long_files(tree: &Tree, most: usize) -> Vec<String> {
    let code = tree.files.iter().filter(|file| !file.test && file.outline.code_lines > most);
    let describe = |file: &crate::tree::File| {
        let (name, lines) = (&file.name, file.outline.code_lines);
        format!(
            "src/{name} has {lines} lines of code, {} too many. Split it by what a reader would look for.",
            lines - most
        )
    };
    code.map(describe).collect()
}

/// Files that the compiler does not see.
pub(crate) fn undeclared_files(tree: &Tree) -> Vec<String> {
    let describe = |name: &String| format!("src/{name} is declared by no `mod`. Declare it, or delete it.");
    tree.undeclared.iter().map(describe).collect()
}

/// A file of the folder names one of `paths` (or a path below it) or one of `words`.
pub(crate) fn forbidden_names(tree: &Tree, folder: &str, paths: &[&str], words: &[&str]) -> Vec<String> {
    let inside = |from: usize| !tree.files[from].test && tree.files[from].name.starts_with(folder);
    let describe = |from: usize, line: usize, name: &str| {
        format!("src/{}:{line} names `{name}`. Let the caller do it, and pass in the outcome.", tree.files[from].name)
    };
    let is_path = |path: &str| paths.iter().any(|root| path == *root || path.starts_with(&format!("{root}::")));
    let externals = tree.externals.iter().filter(|external| inside(external.from) && is_path(&external.path));
    let externals = externals.map(|external| describe(external.from, external.line, &external.path));
    let files = (0..tree.files.len()).filter(|file| inside(*file));
    let found = files.flat_map(|file| tree.files[file].outline.words.iter().map(move |word| (file, word)));
    let found = found.filter(|(_, (word, _))| words.contains(&word.as_str()));
    externals.chain(found.map(|(file, (word, line))| describe(file, *line, word))).collect()
}

/// A file names one of `paths`, though it is in none of the `places`: files, or folders with a slash at their end. A
/// place that names none is reported too.
pub(crate) fn names_out_of_place(tree: &Tree, paths: &[&str], places: &[&str]) -> Vec<String> {
    let mut unused = places.iter().collect::<BTreeSet<_>>();
    let mut violations = Vec::new();
    for external in tree.externals.iter().filter(|external| paths.contains(&external.path.as_str())) {
        let (file, line, path) = (&tree.files[external.from].name, external.line, &external.path);
        let place = places.iter().find(|place| file == **place || place.ends_with('/') && file.starts_with(**place));
        if let Some(place) = place {
            unused.remove(place);
        } else {
            violations
                .push(format!("src/{file}:{line} names `{path}`, which only these may do: {}.", places.join(", ")));
        }
    }
    let stale = |place: &&str| format!("src/{place} names none of {paths:?}, or is not there: take it off the list.");
    violations.extend(unused.into_iter().map(stale));
    violations
}
