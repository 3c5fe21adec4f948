//! Tables in Markdown.

use std::fmt;

/// A table: its columns, then row by row. A column whose name ends with ':' is set to the right.
#[derive(Debug, Clone)]
pub struct Table(String);

impl Table {
    /// A table without rows.
    pub fn new<S: AsRef<str>>(columns: &[S]) -> Table {
        let names = columns.iter().map(|name| name.as_ref().trim_end_matches(':').to_owned());
        let mut table = Table(String::new());
        table.row(names);
        let rule = columns.iter().map(|name| if name.as_ref().ends_with(':') { "---:|" } else { "---|" });
        table.0.push_str(&format!("|{}\n", rule.collect::<String>()));
        table
    }

    /// Adds a row, a cell for each column.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        let cells: Vec<String> = cells.into_iter().collect();
        self.0.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A figure with so many digits behind the point, or "-" where there is none.
pub fn optional(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_rule_below_its_names_and_a_line_a_row() {
        let mut table = Table::new(&["side", "rate:"]);
        table.row(["ours".to_owned(), optional(Some(1.25), 1)]);
        table.row(["peer".to_owned(), optional(None, 1)]);
        assert_eq!(table.to_string(), "| side | rate |\n|---|---:|\n| ours | 1.2 |\n| peer | - |\n");
    }
}
