//! `base = "FILE"`: what several plans have in common, written once.
//!
//! The base is a part of a plan in a file beside it, and may have a base in turn. Tables are joined member by member and the
//! plan's own member wins; lists are replaced whole. What was run is stored joined, in the run folder's `plan.toml`.

use std::io;

use toml::{Table, Value};

/// Bases below each other: more are taken for a circle.
const MOST_BASES: usize = 4;

/// The plan in `text` joined with its base, which `read` gives by name, and the base's; `text` itself when it has none.
///
/// # Errors
/// One of them is no TOML or cannot be read, or there are more than four below each other.
pub fn with_base(text: &str, read: impl Fn(&str) -> io::Result<String>) -> Result<String, String> {
    // What is no TOML is told later, with its line.
    let Ok(mut plan) = text.parse::<Table>() else { return Ok(text.to_owned()) };
    let Some(mut name) = plan.remove("base") else { return Ok(text.to_owned()) };
    for _ in 0..MOST_BASES {
        let wrong = |problem: String| format!("base is {name}: {problem}");
        let file = name.as_str().ok_or_else(|| wrong("it must be the name of a file beside the plan".into()))?;
        let below = read(file).map_err(|error| wrong(error.to_string()))?;
        let mut below: Table = below.parse().map_err(|error| wrong(format!("{error}")))?;
        let next = below.remove("base");
        join(&mut below, plan);
        plan = below;
        match next {
            Some(next) => name = next,
            None => return toml::to_string(&plan).map_err(|error| error.to_string()),
        }
    }
    Err(format!("base is {name}: more than {MOST_BASES} are below each other"))
}

fn join(below: &mut Table, above: Table) {
    for (name, value) in above {
        match (below.get_mut(&name), value) {
            (Some(Value::Table(inner)), Value::Table(value)) => join(inner, value),
            (_, value) => {
                below.insert(name, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(text: &str, below: &str) -> Result<String, String> {
        let read = |name: &str| match name {
            "b.toml" => Ok(below.to_owned()),
            "root.toml" => Ok("bound_seconds = 9\n[set]\nseconds = '8'\nqueues = '1'".to_owned()),
            _ => Err(io::Error::from(io::ErrorKind::NotFound)),
        };
        with_base(text, read).map_err(|error| error.to_string())
    }

    #[test]
    fn the_plans_own_members_win_and_tables_are_joined() {
        let text = joined(
            "base = 'b.toml'\nname = 'mine'\n[set]\nport = '2'\n[generator]\nextra = ['x']",
            "name = 'base'\nbound_seconds = 5\n[set]\nport = '1'\nseconds = '4'\n[generator]\nextra = ['y', 'z']",
        );
        let table: Table = text.unwrap().parse().unwrap();
        let expected = "name = 'mine'\nbound_seconds = 5\n[set]\nport = '2'\nseconds = '4'\n[generator]\nextra = ['x']";
        assert_eq!(table, expected.parse().unwrap());
    }

    #[test]
    fn without_a_base_the_text_stays_as_it_is() {
        assert_eq!(joined("name = 'x' # why\n", "").unwrap(), "name = 'x' # why\n");
        assert_eq!(joined("name = ", "").unwrap(), "name = ");
    }

    #[test]
    fn a_base_may_have_one_itself_whose_members_count_least() {
        let text = joined("base = 'b.toml'\n[set]\nport = '2'", "base = 'root.toml'\n[set]\nport = '1'\nseconds = '4'");
        let table: Table = text.unwrap().parse().unwrap();
        assert_eq!(table, "bound_seconds = 9\n[set]\nport = '2'\nseconds = '4'\nqueues = '1'".parse().unwrap());
    }

    #[test]
    fn a_base_that_is_missing_wrong_or_its_own_is_named() {
        assert!(joined("base = 'c.toml'", "").unwrap_err().contains("c.toml"));
        assert!(joined("base = 7", "").unwrap_err().contains("base is 7"));
        assert!(joined("base = 'b.toml'", "name = ").unwrap_err().contains("b.toml"));
        assert!(joined("base = 'b.toml'", "base = 'b.toml'").unwrap_err().contains("more than 4"));
    }
}
