//! What is known to differ, and why: `differences.txt`, a pattern of eight words and a reason each line.

/// A line.
struct Line {
    words: Vec<Vec<String>>,
    text: String,
    used: bool,
}

/// The file.
pub struct Differences {
    lines: Vec<Line>,
}

impl Differences {
    pub fn read() -> Self {
        let lines = include_str!("differences.txt").lines();
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(|line| {
            let (pattern, reason) = line.split_once(" : ").unwrap_or_else(|| panic!("no reason: {line}"));
            let words: Vec<Vec<String>> =
                pattern.split_whitespace().map(|word| word.split(',').map(str::to_owned).collect()).collect();
            assert!(words.len() == 8 && reason.len() > 20, "eight words and a reason: {line}");
            Line { words, text: line.to_owned(), used: false }
        });
        Self { lines: lines.collect() }
    }

    /// Whether a line is about the case of these words; each of the pattern's is `*`, or one of several.
    pub fn explain(&mut self, words: &[String; 8]) -> bool {
        let fits = |line: &Line| {
            let mut pairs = line.words.iter().zip(words);
            pairs.all(|(pattern, word)| pattern.iter().any(|p| p == "*" || p == word))
        };
        let line = self.lines.iter_mut().find(|line| fits(line));
        line.is_some_and(|line| {
            line.used = true;
            true
        })
    }

    /// Lines that have explained nothing.
    pub fn unused(&self) -> Vec<String> {
        self.lines.iter().filter(|line| !line.used).map(|line| line.text.clone()).collect()
    }
}
