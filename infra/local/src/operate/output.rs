//! Tables for people, JSON for programs.

use std::io::{IsTerminal as _, Write as _};

use comfy_table::{ContentArrangement, Table, presets};
use reelhook_core::Timestamp;
use serde_json::Value;

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    People,
    Programs,
}

impl Output {
    /// Prints a document for programs, or what `people` makes for people.
    pub(crate) fn print(self, document: &Value, people: impl FnOnce() -> String) {
        let text = match self {
            Self::People => people(),
            Self::Programs => format!("{document:#}"),
        };
        line(text.trim_end());
    }
}

/// A line of standard output. Nobody reads a closed one.
pub(crate) fn line(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Columns without lines around them. Cells are wrapped where standard output is a terminal.
pub(crate) fn table(columns: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(columns).add_rows(rows);
    if std::io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    // The style begins each line with a blank.
    table.lines().map(|line| line.strip_prefix(' ').unwrap_or(&line).trim_end().to_owned() + "\n").collect()
}

/// A span of time in its largest unit: `90 s` is `1 min`.
pub(crate) fn span(seconds: i64) -> String {
    let (sign, seconds) = (if seconds < 0 { "-" } else { "" }, seconds.unsigned_abs());
    match seconds {
        0..=119 => format!("{sign}{seconds} s"),
        120..=7199 => format!("{sign}{} min", seconds / 60),
        7200..=172_799 => format!("{sign}{} h", seconds / 3600),
        _ => format!("{sign}{} days", seconds / 86_400),
    }
}

/// How long ago something was.
pub(crate) fn age(then: Option<Timestamp>, now: Timestamp) -> String {
    then.map_or_else(|| "-".to_owned(), |then| span(now.seconds() - then.seconds()))
}

/// Reads `90s`, `15m`, `2h` or `7d`, as seconds.
pub(crate) fn seconds(text: &str) -> Result<i64, String> {
    let unit = text.chars().last().unwrap_or_default();
    let factor = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3600,
        'd' => 86_400,
        _ => return Err("write it as 90s, 15m, 2h or 7d".to_owned()),
    };
    let number: Option<i64> = text[..text.len() - 1].parse().ok().filter(|number| *number >= 0);
    number.and_then(|number| number.checked_mul(factor)).ok_or_else(|| "write it as 90s, 15m, 2h or 7d".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_read_and_written_in_one_unit() {
        assert_eq!([0, 119, 120, 7199, 7200, 172_800].map(span), ["0 s", "119 s", "2 min", "119 min", "2 h", "2 days"]);
        assert_eq!(span(-90), "-90 s");
        for (text, expected) in [("90s", Some(90)), ("15m", Some(900)), ("2h", Some(7200)), ("7d", Some(604_800))] {
            assert_eq!(seconds(text).ok(), expected);
        }
        for wrong in ["", "s", "5", "-5s", "5x", "9999999999999999999d", "ü"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
