//! Holds the lines of a replay against those that were recorded.

use std::collections::{BTreeMap, HashMap};
use std::fmt;

use serde_json::Value;

/// Lines may change places that are no further apart than this.
const ORDER_US: u64 = 250_000;

/// One difference, as it stands in the list.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    pub recording: String,
    /// Which line.
    pub line: String,
    pub field: String,
    pub old: String,
    pub new: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { recording, line, field, old, new } = self;
        write!(f, "{recording}\t{line}\t{field}\t{old}\t{new}")
    }
}

impl Difference {
    /// Reads one of the list.
    pub fn parse(text: &str) -> Option<Self> {
        let mut fields = text.split('\t').map(str::to_owned);
        let mut field = || fields.next();
        let read = (field()?, field()?, field()?, field()?, field()?);
        let (recording, line, name, old, new) = read;
        Some(Self { recording, line, field: name, old, new })
    }
}

/// A line with what it is known by.
struct Known<'a> {
    key: String,
    line: &'a Value,
}

/// Every difference between the lines of a run.
pub fn compare(recording: &str, old: &[Value], new: &[Value]) -> Vec<Difference> {
    let (old, new) = (known(old), known(new));
    let mut differences = Vec::new();
    let mut differ = |line: &str, field: &str, old: String, new: String| {
        let (recording, line, field) = (recording.to_owned(), line.to_owned(), field.to_owned());
        differences.push(Difference { recording, line, field, old, new });
    };
    let places: HashMap<&str, usize> =
        new.lines.iter().enumerate().map(|(place, known)| (known.key.as_str(), place)).collect();
    let mut order = Vec::new();
    for known in &old.lines {
        let Some(place) = places.get(known.key.as_str()) else {
            differ(&known.key, "(line)", known.line.to_string(), "none".to_owned());
            continue;
        };
        order.push((*place, known));
        let mut of_line = Vec::new();
        let (was, is) = (old.normal(known.line), new.normal(new.lines[*place].line));
        fields("", &was, &is, &mut of_line);
        for (field, was, is) in of_line {
            differ(&known.key, &field, was, is);
        }
    }
    let is_old: HashMap<&str, ()> = old.lines.iter().map(|known| (known.key.as_str(), ())).collect();
    for known in new.lines.iter().filter(|known| !is_old.contains_key(known.key.as_str())) {
        differ(&known.key, "(line)", "none".to_owned(), known.line.to_string());
    }
    for (index, (place, known)) in order.iter().enumerate() {
        let overtaken = order[..index].iter().find(|(other, before)| {
            other > place && mono_us(before.line).abs_diff(mono_us(known.line)) > ORDER_US
        });
        if let Some((_, before)) = overtaken {
            differ(&known.key, "(order)", format!("after {}", before.key), "before it".to_owned());
        }
    }
    differences
}

/// The lines of a run.
struct Lines<'a> {
    lines: Vec<Known<'a>>,
    keys: HashMap<u64, String>,
}

fn known(lines: &[Value]) -> Lines<'_> {
    let mut keys: HashMap<u64, String> = HashMap::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let mut known = Vec::new();
    for line in lines {
        let mut key = key(line, &keys);
        let count = seen.entry(key.clone()).or_default();
        *count += 1;
        if *count > 1 {
            key = format!("{key} #{count}");
        }
        keys.insert(line["seq"].as_u64().unwrap_or(0), key.clone());
        known.push(Known { key, line });
    }
    Lines { lines: known, keys }
}

fn mono_us(line: &Value) -> u64 {
    line["mono_us"].as_u64().unwrap_or(0)
}

/// What distinguishes a line from every other of its run.
fn key(line: &Value, keys: &HashMap<u64, String>) -> String {
    let kind = line["type"].as_str().unwrap_or("?");
    let at = mono_us(line);
    let of = |seq: &Value| {
        let key = seq.as_u64().and_then(|seq| keys.get(&seq));
        key.map_or_else(|| format!("line {seq}"), |key| format!("[{key}]"))
    };
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let endpoint = |value: &Value| format!("{}:{}", text(&value["addr"]), value["port"]);
    match kind {
        "refused" => format!(
            "refused {}[{}] {} @{at}",
            text(&line["client"]["comm"]),
            line["client"]["pid"],
            endpoint(&line["dst"])
        ),
        "failed" => format!("failed [{}] {} @{at}", line["client"]["pid"], endpoint(&line["dst"])),
        "bind" => format!("{} [{}] {} @{at}", text(&line["call"]), line["process"]["pid"], endpoint(line)),
        "listener" => {
            let (change, listener) = (text(&line["change"]), &line["listener"]);
            let at = if change == "present" { String::new() } else { format!(" @{at}") };
            format!("{change} {} of {}{at}", endpoint(listener), text(&listener["cookie"]))
        }
        "recovered" => format!("recovered {}", endpoint(&line["dst"])),
        "repeated" => format!("repeated {}", of(&line["of"])),
        "fallback" => format!("fallback {}", of(&line["of"])),
        "lost" => format!("lost {}", text(&line["where"])),
        "config" => format!("config {}", text(&line["path"])),
        kind => kind.to_owned(),
    }
}

impl Lines<'_> {
    /// A line without what no two runs have in common, and its references by what they name.
    fn normal(&self, line: &Value) -> Value {
        let mut line = line.clone();
        let kind = line["type"].as_str().unwrap_or("?").to_owned();
        let Some(fields) = line.as_object_mut() else { return line };
        for name in ["run", "seq", "time"] {
            fields.remove(name);
        }
        // The moment of these is when the main loop got to it.
        let is_of_the_loop = matches!(&*kind, "start" | "ready" | "alive" | "stop" | "repeated");
        if is_of_the_loop || fields.get("change").is_some_and(|change| change == "present") {
            fields.remove("mono_us");
        }
        if let Some(of) = fields.get_mut("of") {
            match of {
                Value::Array(all) => all.iter_mut().for_each(|seq| *seq = self.named(seq)),
                seq => *seq = self.named(seq),
            }
        }
        rounded(&mut line);
        line
    }

    fn named(&self, seq: &Value) -> Value {
        seq.as_u64().and_then(|seq| self.keys.get(&seq)).cloned().map_or(Value::Null, Value::from)
    }
}

/// Times to the microsecond: the starts of processes were recorded by a clock that was read again and again.
fn rounded(value: &mut Value) {
    match value {
        Value::Array(values) => values.iter_mut().for_each(rounded),
        Value::Object(fields) => fields.values_mut().for_each(rounded),
        Value::String(text) if text.len() > 20 && text.ends_with('Z') => {
            let Ok(time) = text.parse::<jiff::Timestamp>() else { return };
            let round = jiff::TimestampRound::new().smallest(jiff::Unit::Microsecond);
            *text = time.round(round).expect("a time of these years").to_string();
        }
        _ => {}
    }
}

/// The fields in which two values differ.
fn fields(path: &str, old: &Value, new: &Value, out: &mut Vec<(String, String, String)>) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            // A field that has been added since does not count as a difference: the format may grow.
            for (name, old) in old {
                let new = new.get(name).unwrap_or(&Value::Null);
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                fields(&path, old, new, out);
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (index, (old, new)) in old.iter().zip(new).enumerate() {
                fields(&format!("{path}[{index}]"), old, new, out);
            }
        }
        (old, new) if old != new => out.push((path.to_owned(), old.to_string(), new.to_string())),
        _ => {}
    }
}
