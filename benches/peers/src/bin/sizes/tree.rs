//! Counts the crates of a program, with `cargo tree`.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::Path;

use peers::cargo;

/// The depth of a crate in the tree, and the crate.
type Node = (usize, String);

/// Counts the crates of a package of this workspace, and those of its WebSocket library.
pub(crate) fn of_package(package: &Path, name: &str, library: &str) -> Result<(usize, usize), Box<dyn Error>> {
    let nodes = read(package, &["-p", name, "-e", "normal"])?;
    let alone = branch(&nodes, library).ok_or_else(|| format!("{name} does not depend on {library}"))?;
    Ok((count(nodes.iter()), count(alone.iter())))
}

/// Counts the crates of an example in a package of examples, and those of the library. Of the package's dependencies only
/// those count that the example's sources name. Cargo builds the others too, but the linker leaves them out.
pub(crate) fn of_example(
    workspace: &Path,
    name: &str,
    library: &str,
    sources: &str,
) -> Result<(usize, usize), Box<dyn Error>> {
    let nodes = read(workspace, &["-p", name, "-e", "normal"])?;
    let (itself, dependencies) = nodes.split_first().ok_or_else(|| format!("there is no package {name}"))?;
    let is_linked =
        |node: &&Node| node.0 == 1 && sources.contains(&format!("{}::", crate_name(&node.1).replace('-', "_")));
    let linked = dependencies.iter().filter(is_linked).filter_map(|node| branch(&nodes, crate_name(&node.1))).flatten();
    let alone = branch(&nodes, library).ok_or_else(|| format!("{name} does not depend on {library}"))?;
    Ok((count(linked.chain([itself])), count(alone.iter())))
}

/// Reads the sources of an example, which the compiler has listed in `dep_info`.
pub(crate) fn sources_of_example(dep_info: &Path) -> Result<String, Box<dyn Error>> {
    let list = fs::read_to_string(dep_info)?;
    let mut text = String::new();
    for source in list.split_whitespace().filter(|path| path.contains("/examples/") && path.ends_with(".rs")) {
        text += &fs::read_to_string(source)?;
    }
    if text.is_empty() {
        return Err(format!("{} names no source", dep_info.display()).into());
    }
    Ok(text)
}

fn read(package: &Path, arguments: &[&str]) -> Result<Vec<Node>, Box<dyn Error>> {
    let mut command = cargo::command("tree", package);
    let output =
        command.args(["--locked", "--offline", "--prefix", "depth", "--no-dedupe"]).args(arguments).output()?;
    if !output.status.success() {
        return Err(format!("cargo tree {}: {}", arguments.join(" "), output.status).into());
    }
    parse(&String::from_utf8(output.stdout)?).ok_or_else(|| "the output of cargo tree is not understood".into())
}

fn parse(text: &str) -> Option<Vec<Node>> {
    let node = |line: &str| {
        let digits = line.find(|c: char| !c.is_ascii_digit())?;
        Some((line[..digits].parse().ok()?, line[digits..].to_owned()))
    };
    text.lines().filter(|line| !line.is_empty()).map(node).collect()
}

/// The first node of this name, and all nodes below it.
fn branch<'a>(nodes: &'a [Node], name: &str) -> Option<&'a [Node]> {
    let start = nodes.iter().position(|(_, line)| crate_name(line) == name)?;
    let below = nodes[start + 1..].iter().take_while(|(depth, _)| *depth > nodes[start].0).count();
    Some(&nodes[start..=start + below])
}

/// The name in a line such as `mio v1.0.0`.
fn crate_name(line: &str) -> &str {
    line.split_whitespace().next().unwrap_or_default()
}

fn count<'a>(nodes: impl Iterator<Item = &'a Node>) -> usize {
    nodes.map(|(_, line)| line).collect::<BTreeSet<_>>().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_ends_where_the_next_begins() {
        let nodes = parse("0a v1\n1b v1\n2c v1\n2d v2\n1c v1\n1e v1 (proc-macro)\n").expect("it is a tree");
        assert_eq!(count(nodes.iter()), 5);
        assert_eq!(branch(&nodes, "b").map(<[Node]>::len), Some(3));
        assert_eq!(branch(&nodes, "e").map(<[Node]>::len), Some(1));
        assert_eq!(branch(&nodes, "x"), None);
    }
}
