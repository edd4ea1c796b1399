//! The published schema of a line, closed: what `tracer schema` prints, and nothing besides.

use std::process::Command;
use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::{Map, Value, json};

/// The schema that `tracer schema` prints.
pub static PUBLISHED: LazyLock<Value> = LazyLock::new(|| {
    let output =
        Command::new(super::binary::binary()).arg("schema").output().expect("to run `tracer schema`");
    assert!(output.status.success(), "`tracer schema`: {}", output.status);
    serde_json::from_slice(&output.stdout).expect("`tracer schema` prints JSON")
});

static CLOSED: LazyLock<Validator> = LazyLock::new(|| {
    let mut schema = PUBLISHED.clone();
    close(&mut schema, true);
    jsonschema::options().should_validate_formats(true).build(&schema).expect("a valid schema")
});

/// What is wrong with a line, if anything.
pub fn check(line: &Value) -> Result<(), String> {
    let errors: Vec<String> =
        CLOSED.iter_errors(line).map(|error| format!("{error} at `{}`", error.instance_path())).collect();
    if errors.is_empty() { Ok(()) } else { Err(errors.join("; ")) }
}

/// Closes every object that the schema describes.
///
/// `unevaluatedProperties` goes where a value begins: at the top, at each property, at each item. There it
/// sees through `$ref`, `oneOf` and the like, which describe the same value once more. It does not go into
/// those themselves: the branch of one line type would refuse the fields that all lines share.
fn close(schema: &mut Value, begins_value: bool) {
    let Value::Object(schema) = schema else { return };
    for (keyword, below) in schema.iter_mut() {
        match keyword.as_str() {
            "properties" | "patternProperties" => each(below, true),
            "items" | "additionalProperties" | "contains" => close(below, true),
            "prefixItems" => each(below, true),
            "$defs" | "dependentSchemas" => each(below, false),
            "oneOf" | "anyOf" | "allOf" => each(below, false),
            "if" | "then" | "else" | "not" => close(below, false),
            _ => {}
        }
    }
    if begins_value {
        schema.insert("unevaluatedProperties".to_owned(), json!(false));
    }
}

fn each(schemas: &mut Value, begin_values: bool) {
    match schemas {
        Value::Object(map) => map.values_mut().for_each(|schema| close(schema, begin_values)),
        Value::Array(list) => list.iter_mut().for_each(|schema| close(schema, begin_values)),
        _ => {}
    }
}

/// The same line once for each of its objects, with an unknown field added; and the path to it.
pub fn with_unknown_fields(line: &Value) -> Vec<(String, Value)> {
    altered(line, &|object| {
        let mut object = object.clone();
        object.insert("unknown_field".to_owned(), json!(null));
        vec![("unknown_field".to_owned(), object)]
    })
}

/// The same line once for each field of each of its objects, without that field; and the path to it.
pub fn with_missing_fields(line: &Value) -> Vec<(String, Value)> {
    altered(line, &|object| {
        let without = |name: &String| {
            let mut object = object.clone();
            object.remove(name);
            (name.clone(), object)
        };
        object.keys().map(without).collect()
    })
}

type Alter<'a> = &'a dyn Fn(&Map<String, Value>) -> Vec<(String, Map<String, Value>)>;

fn altered(value: &Value, alter: Alter<'_>) -> Vec<(String, Value)> {
    /// Objects whose keys are data, so that one more or one less is right.
    const MAPS: [&str; 3] = ["by_cause", "by_role", "failed"];
    match value {
        Value::Object(object) => {
            let mut results: Vec<(String, Value)> =
                alter(object).into_iter().map(|(name, changed)| (name, Value::Object(changed))).collect();
            for (name, below) in object.iter().filter(|(name, _)| !MAPS.contains(&name.as_str())) {
                for (path, changed) in altered(below, alter) {
                    let mut whole = object.clone();
                    whole.insert(name.clone(), changed);
                    results.push((format!("{name}/{path}"), Value::Object(whole)));
                }
            }
            results
        }
        Value::Array(list) => {
            let mut results = Vec::new();
            for (index, below) in list.iter().enumerate() {
                for (path, changed) in altered(below, alter) {
                    let mut whole = list.clone();
                    whole[index] = changed;
                    results.push((format!("{index}/{path}"), Value::Array(whole)));
                }
            }
            results
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Vec::new(),
    }
}
