//! Host names in other scripts than ASCII (RFC 5890).

use std::borrow::Cow;

/// Returns the ASCII form of a host's name, in which DNS has it: `xn--caf-dma.fr` for `café.fr`. Returns `None` if the name has
/// none, or if it takes the feature `idn`.
pub(super) fn to_ascii(name: &str) -> Option<Cow<'_, str>> {
    if name.is_ascii() {
        return Some(Cow::Borrowed(name));
    }
    convert(name).map(Cow::Owned)
}

#[cfg(feature = "idn")]
fn convert(name: &str) -> Option<String> {
    // UTS 46, as browsers: capital letters, full-width characters and the like are mapped. What it gives is checked as any
    // other name is.
    idna::domain_to_ascii(name).ok()
}

#[cfg(not(feature = "idn"))]
fn convert(_: &str) -> Option<String> {
    None
}

/// Returns the ASCII form of a name, for an error that shows it; `None` if that takes the tables of Unicode, which the
/// feature `idn` has. It never returns a wrong one.
pub(super) fn suggestion(name: &str) -> Option<String> {
    // One by one: a sigma at the end of a word is no other letter here.
    let lower: String = name.chars().flat_map(char::to_lowercase).collect();
    if !lower.chars().all(|character| is_plain_ascii(character) || maps_to_itself(character)) {
        return None;
    }
    let labels: Option<Vec<String>> = lower.split('.').map(label).collect();
    labels.map(|labels| labels.join("."))
}

/// Returns the ASCII form of one label (RFC 5890 2.3.2.1).
fn label(label: &str) -> Option<String> {
    let ascii = if label.is_ascii() { label.to_owned() } else { format!("xn--{}", punycode(label)?) };
    (ascii.len() <= MAX_LABEL).then_some(ascii)
}

fn is_plain_ascii(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '.')
}

/// Returns whether the character is a small letter, or one of a script without capitals, that UTS 46 leaves as it is, that
/// NFC leaves as it is, and that is written from left to right. There are more.
fn maps_to_itself(character: char) -> bool {
    match character {
        // Latin, without the letters that stand for two or are another's form.
        '\u{133}' | '\u{140}' | '\u{149}' => false,
        '\u{DF}'..='\u{F6}' | '\u{F8}'..='\u{17E}' => true,
        // Greek and Cyrillic.
        '\u{3AC}'..='\u{3CE}' | '\u{430}'..='\u{45F}' => true,
        // Hiragana, Katakana and its sign for long vowels, the common ideographs, Hangul.
        '\u{3041}'..='\u{3096}' | '\u{30A1}'..='\u{30FA}' | '\u{30FC}' => true,
        '\u{4E00}'..='\u{9FFF}' | '\u{AC00}'..='\u{D7A3}' => true,
        _ => false,
    }
}

/// A label of DNS has at most 63 bytes (RFC 1035 2.3.4).
const MAX_LABEL: usize = 63;

/// Encodes one label (RFC 3492 6.3), which has at most as many characters as one of DNS has.
fn punycode(label: &str) -> Option<String> {
    const BASE: u32 = 36;
    const T_MIN: u32 = 1;
    const T_MAX: u32 = 26;
    let points: Vec<u32> = label.chars().map(u32::from).collect();
    let mut encoded: String = label.chars().filter(char::is_ascii).collect();
    let basic = u32::try_from(encoded.len()).ok()?;
    if points.len() > MAX_LABEL {
        return None;
    }
    if basic > 0 {
        encoded.push('-');
    }
    let (mut next, mut delta, mut bias, mut handled) = (0x80_u32, 0_u32, 72_u32, basic);
    while usize::try_from(handled).is_ok_and(|handled| handled < points.len()) {
        let point = points.iter().copied().filter(|point| *point >= next).min()?;
        delta = delta.checked_add(point.checked_sub(next)?.checked_mul(handled.checked_add(1)?)?)?;
        next = point;
        for other in &points {
            if *other < next {
                delta = delta.checked_add(1)?;
            }
            if *other != next {
                continue;
            }
            let (mut rest, mut k) = (delta, BASE);
            loop {
                let threshold = k.saturating_sub(bias).clamp(T_MIN, T_MAX);
                if rest < threshold {
                    break;
                }
                let span = BASE.checked_sub(threshold)?;
                let over = rest.checked_sub(threshold)?;
                encoded.push(digit(threshold.checked_add(over.checked_rem(span)?)?)?);
                (rest, k) = (over.checked_div(span)?, k.checked_add(BASE)?);
            }
            encoded.push(digit(rest)?);
            bias = adapt(delta, handled.checked_add(1)?, handled == basic)?;
            (delta, handled) = (0, handled.checked_add(1)?);
        }
        (delta, next) = (delta.checked_add(1)?, next.checked_add(1)?);
    }
    Some(encoded)
}

/// Adapts the bias (RFC 3492 6.1).
fn adapt(delta: u32, points: u32, is_first: bool) -> Option<u32> {
    let mut delta = if is_first { delta / 700 } else { delta / 2 };
    delta = delta.checked_add(delta.checked_div(points)?)?;
    let mut k = 0_u32;
    while delta > 35 * 26 / 2 {
        (delta, k) = (delta / 35, k.checked_add(36)?);
    }
    k.checked_add(delta.checked_mul(36)?.checked_div(delta.checked_add(38)?)?)
}

fn digit(value: u32) -> Option<char> {
    char::from_digit(value.checked_add(10)?, 36)
        .filter(|_| value < 26)
        .or_else(|| char::from_digit(value.checked_sub(26)?, 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ascii_form_is_shown_where_it_is_certain() {
        for (name, shown) in [
            ("caf\u{e9}.fr", "xn--caf-dma.fr"),
            ("CAF\u{c9}.fr", "xn--caf-dma.fr"),
            ("b\u{fc}cher.example.com", "xn--bcher-kva.example.com"),
            ("stra\u{df}e.de", "xn--strae-oqa.de"),
            ("\u{4f8b}\u{3048}.\u{30c6}\u{30b9}\u{30c8}", "xn--r8jz45g.xn--zckzah"),
            ("\u{43f}\u{440}\u{438}\u{43c}\u{435}\u{440}.\u{440}\u{444}", "xn--e1afmkfd.xn--p1ai"),
            ("\u{d55c}\u{ad6d}.kr", "xn--3e0b707e.kr"),
            // RFC 3492 7.1, (B) and (L) without the capital letters.
            (
                "\u{4ed6}\u{4eec}\u{4e3a}\u{4ec0}\u{4e48}\u{4e0d}\u{8bf4}\u{4e2d}\u{6587}",
                "xn--ihqwcrb4cv8a8dqg056pqjye",
            ),
            ("3\u{5e74}b\u{7d44}\u{91d1}\u{516b}\u{5148}\u{751f}", "xn--3b-ww4c5e180e575a65lsy2b"),
        ] {
            assert_eq!(suggestion(name).as_deref(), Some(shown), "{name}");
        }
        for uncertain in [
            "e\u{301}.fr",
            "\u{fb01}.com",
            "\u{5d0}.il",
            "\u{3002}",
            "\u{1f600}.ws",
            "\u{133}.nl",
            "a b\u{e9}",
            "\u{130}.tr",
        ] {
            assert_eq!(suggestion(uncertain), None, "{uncertain}");
        }
        assert_eq!(suggestion(&"\u{e9}".repeat(100)), None);
    }

    #[cfg(feature = "idn")]
    #[test]
    fn every_form_that_is_shown_is_the_one_of_uts_46() {
        for character in (0x80..0x1_0000).filter_map(char::from_u32) {
            for name in
                [format!("{character}.x"), format!("a{character}b{character}"), format!("\u{e9}{character}\u{4e00}")]
            {
                if let Some(shown) = suggestion(&name) {
                    assert_eq!(to_ascii(&name).as_deref(), Some(shown.as_str()), "{name:?}");
                }
            }
        }
    }

    #[cfg(feature = "idn")]
    #[test]
    fn names_are_mapped_as_browsers_do() {
        for (name, ascii) in [
            ("CAF\u{c9}.fr", "xn--caf-dma.fr"),
            ("e\u{301}\u{ff0e}fr", "xn--9ca.fr"),
            ("\u{ff11}27.0.0.1", "127.0.0.1"),
            ("\u{fb01}.com", "fi.com"),
        ] {
            assert_eq!(to_ascii(name).as_deref(), Some(ascii), "{name}");
        }
        assert_eq!(to_ascii("\u{2028}"), None);
    }
}
