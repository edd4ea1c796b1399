//! The table, as Markdown and as JSON.

use std::fmt::{self, Write as _};

use serde_json::{Value, json};

use super::stats::Sample;

/// How a number is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Nanoseconds,
    Microseconds,
    Milliseconds,
    PerSecond,
    Kibibytes,
    Count,
    Percent,
}

/// Which side of a bound is the good one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

/// What a bound is called in JSON.
const AT_MOST: &str = "at_most";
const AT_LEAST: &str = "at_least";

/// One line of the table.
#[derive(Clone, Debug)]
pub struct Row {
    pub group: &'static str,
    pub what: String,
    pub measured: Measured,
    pub goal: Option<Aim>,
    pub note: String,
}

/// The result of a row.
#[derive(Clone, Debug)]
pub enum Measured {
    Values(Unit, Sample),
    /// It cannot be measured here, and why.
    Not(String),
}

/// A goal, and what came out for it where that is not the median of the row.
#[derive(Clone, Debug)]
pub struct Aim {
    pub text: String,
    pub goal: Goal,
    pub reached: Option<f64>,
}

impl Row {
    pub fn new(group: &'static str, what: impl Into<String>, measured: Measured) -> Self {
        Self { group, what: what.into(), measured, goal: None, note: String::new() }
    }

    /// With a goal for the median.
    pub fn goal(mut self, text: impl Into<String>, goal: Goal) -> Self {
        self.goal = Some(Aim { text: text.into(), goal, reached: None });
        self
    }

    /// With a goal for something else, such as a ratio.
    pub fn goal_for(mut self, text: impl Into<String>, goal: Goal, reached: Option<f64>) -> Self {
        self.goal = Some(Aim { text: text.into(), goal, reached });
        self
    }

    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// Whether the goal is met; none without a goal or a measurement.
    pub fn is_met(&self) -> Option<bool> {
        let aim = self.goal.as_ref()?;
        let Measured::Values(_, sample) = &self.measured else { return None };
        let reached = aim.reached.unwrap_or_else(|| sample.median());
        Some(match aim.goal {
            Goal::AtMost(bound) => reached <= bound,
            Goal::AtLeast(bound) => reached >= bound,
        })
    }

    fn json(&self) -> Value {
        let (unit, values) = match &self.measured {
            Measured::Values(unit, sample) => (
                Some(unit.to_string()),
                json!({
                    "median": sample.median(), "min": sample.min(), "max": sample.max(),
                    "mad": sample.deviation(), "values": sample.values(),
                }),
            ),
            Measured::Not(reason) => (None, json!({"not_measured": reason})),
        };
        let goal = self.goal.as_ref().map(|aim| {
            let (side, bound) = match aim.goal {
                Goal::AtMost(bound) => (AT_MOST, bound),
                Goal::AtLeast(bound) => (AT_LEAST, bound),
            };
            json!({"text": aim.text, side: bound, "reached": aim.reached})
        });
        json!({
            "group": self.group, "what": self.what, "unit": unit, "measured": values, "goal": goal,
            "met": self.is_met(), "note": self.note,
        })
    }

    /// A row that was reported as JSON, into another group; none of what was not measured.
    pub fn read(group: &'static str, row: &Value) -> Option<Self> {
        let unit = Unit::ALL.into_iter().find(|unit| row["unit"] == unit.to_string())?;
        let values =
            row["measured"]["values"].as_array()?.iter().map(Value::as_f64).collect::<Option<_>>()?;
        let measured = Measured::Values(unit, Sample::new(values)?);
        let read = Self::new(group, row["what"].as_str()?, measured).note(row["note"].as_str()?);
        let goal = &row["goal"];
        let bound = |side| goal[side].as_f64();
        let aim = bound(AT_MOST).map(Goal::AtMost).or_else(|| bound(AT_LEAST).map(Goal::AtLeast));
        Some(match aim {
            None => read,
            Some(aim) => read.goal_for(goal["text"].as_str()?, aim, goal["reached"].as_f64()),
        })
    }
}

impl Unit {
    const ALL: [Self; 7] = [
        Self::Nanoseconds,
        Self::Microseconds,
        Self::Milliseconds,
        Self::PerSecond,
        Self::Kibibytes,
        Self::Count,
        Self::Percent,
    ];
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nanoseconds => "ns",
            Self::Microseconds => "µs",
            Self::Milliseconds => "ms",
            Self::PerSecond => "/s",
            Self::Kibibytes => "KiB",
            Self::Count => "",
            Self::Percent => "%",
        })
    }
}

/// Every row as JSON, with what the machine was.
pub fn json(machine: &[(String, String)], rows: &[Row]) -> Value {
    let machine: serde_json::Map<_, _> =
        machine.iter().map(|(what, value)| (what.clone(), json!(value))).collect();
    json!({"machine": machine, "rows": rows.iter().map(Row::json).collect::<Vec<_>>()})
}

/// Every row as a Markdown table for each group.
pub fn markdown(machine: &[(String, String)], rows: &[Row]) -> String {
    let mut text = String::new();
    for (what, value) in machine {
        let _ = writeln!(text, "* {what}: {value}");
    }
    let mut group = "";
    for row in rows {
        if row.group != group {
            group = row.group;
            let _ = write!(text, "\n## {group}\n\n| | median | spread | goal | |\n|---|--:|---|---|---|\n");
        }
        let (median, spread) = match &row.measured {
            Measured::Values(unit, sample) if sample.values().len() == 1 => {
                (shown(sample.median(), *unit), String::new())
            }
            Measured::Values(unit, sample) => (
                shown(sample.median(), *unit),
                format!("{} to {}", shown(sample.min(), *unit), shown(sample.max(), *unit)),
            ),
            Measured::Not(reason) => ("-".to_owned(), format!("does not run here: {reason}")),
        };
        let goal = match (&row.goal, row.is_met()) {
            (None, _) => String::new(),
            (Some(aim), None) => format!("{}: not measured", aim.text),
            (Some(aim), Some(true)) => format!("{}: met", aim.text),
            (Some(aim), Some(false)) => format!("{}: **missed**", aim.text),
        };
        let _ = writeln!(text, "| {} | {median} | {spread} | {goal} | {} |", row.what, row.note);
    }
    text
}

/// A number as a person reads it: three digits that count, thousands apart.
pub fn shown(value: f64, unit: Unit) -> String {
    let digits = match value.abs() {
        _ if unit == Unit::Count => 0,
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        value if value >= 1.0 => 2,
        0.0 => 0,
        _ => 4,
    };
    let text = format!("{value:.digits$}");
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let (sign, whole) = whole.strip_prefix('-').map_or(("", whole), |whole| ("-", whole));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{sign}{grouped}{rest} {unit}").trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(goal: Goal) -> Row {
        let sample = Sample::new(vec![90.0, 110.0, 100.0]).expect("numbers");
        Row::new("Group", "thing", Measured::Values(Unit::Nanoseconds, sample)).goal("a goal", goal)
    }

    #[test]
    fn a_goal_is_met_on_its_side_of_the_bound() {
        assert_eq!(row(Goal::AtMost(100.0)).is_met(), Some(true));
        assert_eq!(row(Goal::AtMost(99.0)).is_met(), Some(false));
        assert_eq!(row(Goal::AtLeast(101.0)).is_met(), Some(false));
        assert_eq!(
            row(Goal::AtLeast(101.0)).goal_for("a ratio", Goal::AtMost(1.3), Some(1.2)).is_met(),
            Some(true)
        );
        let unmeasured = Row::new("Group", "thing", Measured::Not("no".to_owned()));
        assert_eq!(unmeasured.goal("a goal", Goal::AtMost(1.0)).is_met(), None);
    }

    #[test]
    fn a_missed_goal_is_marked() {
        let text = markdown(&[("cores".to_owned(), "2".to_owned())], &[row(Goal::AtMost(99.0))]);
        assert!(text.contains("| thing | 100 ns | 90.0 ns to 110 ns | a goal: **missed** |  |"), "{text}");
        assert!(text.starts_with("* cores: 2\n"), "{text}");
        let json = json(&[], &[row(Goal::AtMost(99.0))]);
        assert_eq!(json["rows"][0]["met"], false);
        assert_eq!(json["rows"][0]["measured"]["mad"], 10.0);
    }

    #[test]
    fn a_row_is_read_back_as_it_was_written() {
        let json = row(Goal::AtLeast(101.0)).goal_for("a ratio", Goal::AtMost(1.3), Some(1.2)).note("so");
        let json = json.json();
        let mut read = Row::read("Another", &json).expect("a row").json();
        assert_eq!(read["group"], "Another");
        read["group"] = json["group"].clone();
        assert_eq!(read, json);
        let plain = Row { goal: None, ..row(Goal::AtMost(1.0)) }.json();
        assert_eq!(Row::read("Group", &plain).expect("a row").json(), plain);
        let unmeasured = Row::new("Group", "thing", Measured::Not("no".to_owned()));
        assert!(Row::read("Group", &unmeasured.json()).is_none());
    }

    #[test]
    fn numbers_are_short_and_thousands_apart() {
        let shown = |value| shown(value, Unit::PerSecond);
        assert_eq!(shown(1_234_567.8), "1,234,568 /s");
        assert_eq!(shown(999.6), "1,000 /s");
        assert_eq!(shown(12.34), "12.3 /s");
        assert_eq!(shown(1.234), "1.23 /s");
        assert_eq!(shown(0.01234), "0.0123 /s");
        assert_eq!(shown(0.0), "0 /s");
        assert_eq!(shown(-1_500.0), "-1,500 /s");
    }
}
