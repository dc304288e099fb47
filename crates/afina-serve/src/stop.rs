//! Stop strings cut out of a text that arrives in pieces.

/// Lets text through up to the first completed stop string, holding back whatever could still become one.
///
/// Which string wins does not depend on how the text is cut: the one whose last character comes first, and of two that
/// end together the longer.
pub(crate) struct StopFilter {
    stops: Vec<String>,
    held: String,
    stopped: bool,
}

impl StopFilter {
    pub(crate) fn new(stops: &[String]) -> StopFilter {
        StopFilter { stops: stops.to_vec(), held: String::new(), stopped: false }
    }

    /// Takes the next piece and returns the text that can be shown now; nothing once a stop string was reached.
    pub(crate) fn push(&mut self, piece: &str) -> String {
        if self.stopped {
            return String::new();
        }
        self.held.push_str(piece);
        let first = self
            .stops
            .iter()
            .filter_map(|stop| self.held.find(stop.as_str()).map(|start| (start + stop.len(), start)))
            .min();
        if let Some((_, start)) = first {
            self.stopped = true;
            self.held.truncate(start);
            return std::mem::take(&mut self.held);
        }
        let keep = self.stops.iter().map(|stop| overlap(&self.held, stop)).max().unwrap_or(0);
        let rest = self.held.split_off(self.held.len() - keep);
        std::mem::replace(&mut self.held, rest)
    }

    /// The text still held back when the answer ended without a stop string.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stopped
    }
}

/// Length in bytes of the longest end of `text` that `stop` begins with.
fn overlap(text: &str, stop: &str) -> usize {
    stop.char_indices().map(|(at, _)| at).filter(|&at| text.ends_with(&stop[..at])).max().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The visible text and whether it stopped, with the text cut into pieces at the given byte positions.
    fn run(stops: &[&str], pieces: &[&str]) -> (String, bool) {
        let stops: Vec<String> = stops.iter().map(|stop| stop.to_string()).collect();
        let mut filter = StopFilter::new(&stops);
        let mut visible = String::new();
        for piece in pieces {
            visible.push_str(&filter.push(piece));
            for stop in &stops {
                assert!(!visible.contains(stop.as_str()), "`{stop}` leaked into `{visible}`");
            }
        }
        visible.push_str(&filter.finish());
        (visible, filter.stopped())
    }

    /// Every way to cut a text into pieces.
    fn cuts(text: &str) -> Vec<Vec<&str>> {
        let places: Vec<usize> = text.char_indices().map(|(at, _)| at).skip(1).collect();
        (0..1_usize << places.len())
            .map(|mask| {
                let mut pieces = Vec::new();
                let mut from = 0;
                for (bit, &at) in places.iter().enumerate() {
                    if mask >> bit & 1 == 1 {
                        pieces.push(&text[from..at]);
                        from = at;
                    }
                }
                pieces.push(&text[from..]);
                pieces
            })
            .collect()
    }

    #[test]
    fn text_is_cut_at_the_stop_string_however_it_arrives() {
        for (stops, text, visible, stopped) in [
            (vec!["FIN"], "hola FINal", "hola ", true),
            (vec!["\n\n"], "uno\ndos\n\n3", "uno\ndos", true),
            (vec!["aab"], "aaaab", "aa", true),
            (vec!["ñandú"], "un ñandúy", "un ", true),
            (vec!["ñandú"], "un ñandu", "un ñandu", false),
            (vec!["xaby", "ab"], "1xaby2", "1x", true),
            (vec!["bc", "abc"], "zabcd", "z", true),
            (vec!["END"], "the EN", "the EN", false),
            (vec![], "sin fin", "sin fin", false),
        ] {
            for pieces in cuts(text) {
                assert_eq!(run(&stops, &pieces), (visible.to_string(), stopped), "{pieces:?}");
            }
        }
    }

    #[test]
    fn text_that_cannot_become_a_stop_string_is_not_delayed() {
        let mut filter = StopFilter::new(&["###".to_string()]);
        assert_eq!(filter.push("hola"), "hola");
        assert_eq!(filter.push(" #"), " ");
        assert_eq!(filter.push("1"), "#1");
    }

    #[test]
    fn nothing_comes_after_a_stop_string() {
        let mut filter = StopFilter::new(&["x".to_string()]);
        assert_eq!(filter.push("ax"), "a");
        assert_eq!(filter.push("b"), "");
        assert_eq!(filter.finish(), "");
    }
}
