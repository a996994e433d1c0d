//! Random numbers for delays.

/// Returns a random number, or the largest where the system has none: then a delay is the longest one.
pub(crate) fn random() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_or(u64::MAX, |()| u64::from_ne_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_are_not_all_of_the_same_length() {
        assert_ne!(random(), random());
    }
}
