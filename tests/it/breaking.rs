//! What would break clients that were generated from an earlier description.
//!
//! `openapi/acknowledged.json` is the description that clients are taken to be generated from. What only adds
//! to it passes; what takes something away from them, or calls it something else, fails until somebody says
//! that it is meant, by renewing that file.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

const PRESENT: &str = include_str!("../../openapi/nights-watch.json");
const ACKNOWLEDGED: &str = include_str!("../../openapi/acknowledged.json");

#[test]
fn no_client_breaks_that_nobody_has_acknowledged() {
    let read = |text| serde_json::from_str(text).expect("JSON");
    let breaks = breaks(&read(ACKNOWLEDGED), &read(PRESENT));
    assert!(
        breaks.is_empty(),
        "this would break clients that have been generated before:\n  {}\nif it is meant, say so by \
         `cp openapi/nights-watch.json openapi/acknowledged.json`",
        breaks.into_iter().collect::<Vec<_>>().join("\n  ")
    );
}

/// What clients generated from `old` would trip over in a service described by `new`.
fn breaks(old: &Value, new: &Value) -> BTreeSet<String> {
    let mut comparison = Comparison {
        old,
        new,
        seen: BTreeSet::new(),
        breaks: BTreeSet::new(),
    };
    comparison.compare();
    comparison.breaks
}

struct Comparison<'a> {
    old: &'a Value,
    new: &'a Value,
    /// The named schemas that have been compared, each for a direction.
    seen: BTreeSet<(String, Direction)>,
    breaks: BTreeSet<String>,
}

/// Who writes what a schema describes. Clients may go on writing what they wrote, and must be able to read
/// what they get: what is widened for one is narrowed for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Direction {
    ByClient,
    ByServer,
}

impl<'a> Comparison<'a> {
    fn compare(&mut self) {
        for (path, item) in entries(&self.old["paths"]) {
            for (method, operation) in entries(item) {
                let place = format!("{} {path}", method.to_uppercase());
                match self.new["paths"]
                    .get(path)
                    .and_then(|item| item.get(method))
                {
                    Some(new) => self.compare_operations(&place, operation, new),
                    None => self.say(&place, "is gone"),
                }
            }
        }
        let schemes = |document: &'a Value| &document["components"]["securitySchemes"];
        for (name, scheme) in entries(schemes(self.old)) {
            let new = &schemes(self.new)[name];
            for member in ["type", "in", "name", "scheme"] {
                if scheme[member] != new[member] {
                    self.say(
                        name,
                        &format!("is another security scheme by its {member:?}"),
                    );
                }
            }
        }
    }

    fn compare_operations(&mut self, place: &str, old: &'a Value, new: &'a Value) {
        // Some generators make functions of the one, and modules of the other.
        for member in ["operationId", "tags"] {
            if old[member] != new[member] {
                let (old, new) = (&old[member], &new[member]);
                self.say(place, &format!("has {member} {new} instead of {old}"));
            }
        }
        self.compare_parameters(place, old, new);
        for (status, response) in entries(&old["responses"]) {
            let place = format!("{place}, {status}");
            match new["responses"].get(status) {
                Some(new) => self.compare_responses(&place, response, new),
                None => self.say(&place, "is gone"),
            }
        }
        let accepted = |operation: &'a Value, document: &'a Value| {
            let own = operation.get("security");
            let demands = own.or_else(|| document.get("security"));
            demands
                .and_then(Value::as_array)
                .map_or(&[][..], Vec::as_slice)
        };
        let (old, new) = (accepted(old, self.old), accepted(new, self.new));
        let nothing = [json!({})];
        for given in if old.is_empty() { &nothing[..] } else { old } {
            let given: Vec<_> = entries(given).map(|(name, _)| name).collect();
            let is_enough = |demand: &Value| entries(demand).all(|(name, _)| given.contains(&name));
            if !new.is_empty() && !new.iter().any(is_enough) {
                self.say(place, &format!("is not satisfied with the keys {given:?}"));
            }
        }
    }

    fn compare_parameters(&mut self, place: &str, old: &'a Value, new: &'a Value) {
        let is_same =
            |one: &Value, other: &Value| one["name"] == other["name"] && one["in"] == other["in"];
        for parameter in elements(&old["parameters"]) {
            let place = format!("{place}, parameter {}", parameter["name"]);
            let mut others = elements(&new["parameters"]);
            match others.find(|other| is_same(parameter, other)) {
                Some(new) => {
                    for member in ["style", "explode", "content"] {
                        if parameter.get(member) != new.get(member) {
                            self.say(&place, &format!("is written another way by its {member:?}"));
                        }
                    }
                    let (old, new) = (&parameter["schema"], &new["schema"]);
                    self.compare_schemas(&place, old, new, Direction::ByClient);
                }
                None => self.say(&place, "is gone"),
            }
        }
        for parameter in elements(&new["parameters"]) {
            let mut others = elements(&old["parameters"]);
            let old = others.find(|other| is_same(parameter, other));
            let was_required = old.is_some_and(|old| old["required"] == true);
            if parameter["required"] == true && !was_required {
                self.say(
                    &format!("{place}, parameter {}", parameter["name"]),
                    "is required now",
                );
            }
        }
    }

    fn compare_responses(&mut self, place: &str, old: &'a Value, new: &'a Value) {
        for (media_type, content) in entries(&old["content"]) {
            let place = format!("{place}, {media_type}");
            match new["content"].get(media_type) {
                Some(new) => {
                    let (old, new) = (&content["schema"], &new["schema"]);
                    self.compare_schemas(&place, old, new, Direction::ByServer);
                }
                None => self.say(&place, "is gone"),
            }
        }
        for (name, header) in entries(&old["headers"]) {
            let place = format!("{place}, header {name}");
            match new["headers"].get(name) {
                Some(new) => {
                    if header["required"] == true && new["required"] != true {
                        self.say(&place, "may be absent now");
                    }
                    let (old, new) = (&header["schema"], &new["schema"]);
                    self.compare_schemas(&place, old, new, Direction::ByServer);
                }
                None => self.say(&place, "is gone"),
            }
        }
    }

    fn compare_schemas(
        &mut self,
        place: &str,
        old: &'a Value,
        new: &'a Value,
        direction: Direction,
    ) {
        // Generators make a type of each name.
        let name = |schema: &'a Value| schema["$ref"].as_str();
        if name(old) != name(new) {
            let named = |name: Option<&str>| name.unwrap_or("a schema without a name").to_owned();
            let (old, new) = (named(name(old)), named(name(new)));
            return self.say(place, &format!("is {new} instead of {old}"));
        }
        if let Some(name) = name(old) {
            if self.seen.insert((name.to_owned(), direction)) {
                let pointer = name.trim_start_matches('#');
                let find = |document: &'a Value| document.pointer(pointer).expect("it is there");
                self.compare_schemas(name, find(self.old), find(self.new), direction);
            }
            return;
        }
        for (member, old) in entries(&old["properties"]) {
            let place = format!("{place}, member {member:?}");
            match new["properties"].get(member) {
                Some(new) => self.compare_schemas(&place, old, new, direction),
                None => self.say(&place, "is gone"),
            }
        }
        if let (Some(old), Some(new)) = (old.get("items"), new.get("items")) {
            self.compare_schemas(&format!("{place}, its elements"), old, new, direction);
        }
        let (inner, outer, how) = match direction {
            Direction::ByClient => (old, new, "does not take all that it took"),
            Direction::ByServer => (new, old, "can be what it could not be"),
        };
        for keyword in keywords(old, new) {
            if !is_within(keyword, inner.get(keyword), outer.get(keyword)) {
                self.say(place, &format!("{how}, by its {keyword:?}"));
            }
        }
    }

    fn say(&mut self, place: &str, what: &str) {
        self.breaks.insert(format!("{place} {what}"));
    }
}

/// What two schemas say of values, apart from what is compared member by member and what only people read.
fn keywords<'a>(old: &'a Value, new: &'a Value) -> BTreeSet<&'a str> {
    let both = entries(old).chain(entries(new)).map(|(keyword, _)| keyword);
    let skipped = [
        "properties",
        "title",
        "description",
        "example",
        "deprecated",
    ];
    both.filter(|keyword| !skipped.contains(keyword)).collect()
}

/// Whether the values that `inner` admits, as far as the keyword goes, are among those that `outer` admits.
/// Of keywords that are not known here, any change counts.
fn is_within(keyword: &str, inner: Option<&Value>, outer: Option<&Value>) -> bool {
    let number = |value: &Value| value.as_f64().expect("a number");
    match (keyword, inner, outer) {
        ("items", Some(_), Some(_)) | ("required" | "enum" | "pattern", _, None) => true,
        ("nullable", ..) => inner != Some(&json!(true)) || outer == inner,
        ("required", inner, Some(outer)) => {
            let mut outer = elements(outer);
            outer.all(|member| elements(inner.unwrap_or(&Value::Null)).any(|own| own == member))
        }
        ("enum", Some(inner), Some(outer)) => {
            elements(inner).all(|word| elements(outer).any(|other| other == word))
        }
        ("maxLength" | "maxItems" | "maximum", inner, outer) => {
            outer.is_none_or(|most| inner.is_some_and(|own| number(own) <= number(most)))
        }
        ("minLength" | "minItems" | "minimum", inner, outer) => {
            outer.is_none_or(|least| inner.is_some_and(|own| number(own) >= number(least)))
        }
        // Among them type and format: a change gives a member another type, also where it only widens it.
        _ => inner == outer,
    }
}

fn entries(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let entries = value.as_object().into_iter().flat_map(Map::iter);
    entries.map(|(name, value)| (name.as_str(), value))
}

fn elements(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// A description of one operation, with something of everything that is compared.
fn made_up() -> Value {
    json!({
        "security": [{ "key": [] }],
        "paths": {
            "/get": { "get": {
                "operationId": "get",
                "tags": ["Queries"],
                "parameters": [
                    {
                        "name": "id",
                        "in": "query",
                        "required": true,
                        "schema": { "$ref": "#/components/schemas/Id" },
                    },
                    {
                        "name": "limit",
                        "in": "query",
                        "schema": { "type": "number", "minimum": 1, "maximum": 9 },
                    },
                    {
                        "name": "email",
                        "in": "query",
                        "explode": true,
                        "schema": {
                            "type": "array",
                            "maxItems": 9,
                            "items": { "type": "string", "enum": ["a", "b"] },
                        },
                    },
                ],
                "responses": {
                    "200": { "content": { "application/json": {
                        "schema": { "$ref": "#/components/schemas/Thing" },
                    } } },
                    "429": { "headers": { "retry-after": {
                        "required": true,
                        "schema": { "type": "integer" },
                    } } },
                },
            } },
            "/free": { "get": { "operationId": "free", "tags": ["Queries"], "security": [] } },
        },
        "components": {
            "securitySchemes": { "key": { "type": "http", "scheme": "bearer" } },
            "schemas": {
                "Id": { "type": "string", "pattern": "^[a-z]{8}$", "minLength": 1, "maxLength": 8 },
                "Thing": {
                    "type": "object",
                    "required": ["id", "status"],
                    "properties": {
                        "id": { "$ref": "#/components/schemas/Id" },
                        "status": { "type": "string", "enum": ["ok"] },
                        "at": { "type": "string", "format": "date-time" },
                        "pair": {
                            "type": "array",
                            "minItems": 2,
                            "maxItems": 2,
                            "items": { "type": "string" },
                        },
                    },
                },
            },
        },
    })
}

/// What a change is: where, and what stands there then; nothing for what is taken away.
type Edit = (&'static str, Option<Value>);

fn edited((pointer, value): &Edit) -> Value {
    let mut document = made_up();
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer");
    let name = name.replace("~1", "/");
    let parent = document.pointer_mut(parent);
    match (parent.unwrap_or_else(|| panic!("{pointer}")), value) {
        (Value::Object(object), Some(value)) => drop(object.insert(name, value.clone())),
        (Value::Object(object), None) => assert!(object.remove(&name).is_some(), "{pointer}"),
        (Value::Array(array), Some(value)) => array.push(value.clone()),
        (Value::Array(array), None) => drop(array.remove(name.parse().expect("an index"))),
        _ => panic!("{pointer}"),
    }
    document
}

fn at(place: &str, rest: &str) -> &'static str {
    format!("{place}{rest}").leak()
}

const GET: &str = "/paths/~1get/get";
const ID: &str = "/components/schemas/Id";
const THING: &str = "/components/schemas/Thing";

/// Checks that each change, made to the description above, is a break whose line has the words beside it.
#[track_caller]
fn check_breaks(cases: &[(Edit, &str)]) {
    for (edit, words) in cases {
        let found = breaks(&made_up(), &edited(edit));
        let is_found = found.iter().any(|line| line.contains(words));
        assert!(is_found, "{edit:?}: {found:#?}");
    }
}

#[test]
fn what_an_operation_no_longer_has_is_a_break() {
    let new = json!({ "name": "new", "in": "query", "required": true, "schema": {} });
    check_breaks(&[
        (("/paths/~1get", None), "GET /get is gone"),
        ((GET, None), "GET /get is gone"),
        (
            (at(GET, "/operationId"), Some(json!("fetch"))),
            "has operationId",
        ),
        ((at(GET, "/tags"), Some(json!(["Changes"]))), "has tags"),
        ((at(GET, "/parameters/1"), None), "\"limit\" is gone"),
        (
            (at(GET, "/parameters/1/name"), Some(json!("most"))),
            "\"limit\" is gone",
        ),
        (
            (at(GET, "/parameters/1/required"), Some(json!(true))),
            "\"limit\" is required now",
        ),
        (
            (at(GET, "/parameters/-"), Some(new)),
            "\"new\" is required now",
        ),
        (
            (at(GET, "/parameters/2/explode"), None),
            "another way by its \"explode\"",
        ),
    ]);
}

#[test]
fn what_a_parameter_no_longer_takes_is_a_break() {
    check_breaks(&[
        (
            (at(GET, "/parameters/1/schema/type"), Some(json!("integer"))),
            "by its \"type\"",
        ),
        (
            (at(GET, "/parameters/1/schema/minimum"), Some(json!(2))),
            "by its \"minimum\"",
        ),
        (
            (at(GET, "/parameters/1/schema/maximum"), Some(json!(8))),
            "by its \"maximum\"",
        ),
        (
            (at(GET, "/parameters/1/schema/enum"), Some(json!([1]))),
            "by its \"enum\"",
        ),
        (
            (at(GET, "/parameters/1/schema/format"), Some(json!("float"))),
            "by its \"format\"",
        ),
        (
            (at(GET, "/parameters/1/schema/allOf"), Some(json!([]))),
            "by its \"allOf\"",
        ),
        (
            (at(GET, "/parameters/2/schema/items/enum/1"), None),
            "by its \"enum\"",
        ),
        (
            (at(GET, "/parameters/2/schema/items"), None),
            "by its \"items\"",
        ),
        (
            (at(GET, "/parameters/2/schema/maxItems"), Some(json!(8))),
            "by its \"maxItems\"",
        ),
        (
            (at(ID, "/minLength"), Some(json!(2))),
            "by its \"minLength\"",
        ),
        (
            (at(ID, "/minLength"), None),
            "could not be, by its \"minLength\"",
        ),
        (
            (at(ID, "/maxLength"), Some(json!(7))),
            "that it took, by its \"maxLength\"",
        ),
        (
            (at(ID, "/maxLength"), Some(json!(9))),
            "could not be, by its \"maxLength\"",
        ),
        (
            (at(ID, "/pattern"), Some(json!("^[a-z]{9}$"))),
            "that it took, by its \"pattern\"",
        ),
        (
            (at(ID, "/pattern"), None),
            "could not be, by its \"pattern\"",
        ),
    ]);
}

#[test]
fn what_an_answer_no_longer_is_is_a_break() {
    check_breaks(&[
        ((at(GET, "/responses/429"), None), "429 is gone"),
        (
            (at(GET, "/responses/429/headers/retry-after"), None),
            "retry-after is gone",
        ),
        (
            (at(GET, "/responses/429/headers/retry-after/required"), None),
            "retry-after may be absent now",
        ),
        (
            (
                at(GET, "/responses/429/headers/retry-after/schema/type"),
                Some(json!("string")),
            ),
            "by its \"type\"",
        ),
        (
            (at(GET, "/responses/200/content/application~1json"), None),
            "application/json is gone",
        ),
        (
            (
                at(GET, "/responses/200/content/application~1json/schema"),
                Some(json!({})),
            ),
            "is a schema without a name instead of #/components/schemas/Thing",
        ),
        ((at(THING, "/properties/at"), None), "\"at\" is gone"),
        (
            (at(THING, "/properties/at/format"), None),
            "by its \"format\"",
        ),
        (
            (at(THING, "/properties/at/nullable"), Some(json!(true))),
            "by its \"nullable\"",
        ),
        (
            (at(THING, "/properties/status/enum/-"), Some(json!("error"))),
            "by its \"enum\"",
        ),
        (
            (at(THING, "/properties/status/enum"), None),
            "by its \"enum\"",
        ),
        (
            (at(THING, "/properties/pair/maxItems"), Some(json!(3))),
            "by its \"maxItems\"",
        ),
        (
            (
                at(THING, "/properties/pair/items/type"),
                Some(json!("number")),
            ),
            "by its \"type\"",
        ),
        ((at(THING, "/required/0"), None), "by its \"required\""),
        ((at(THING, "/required"), None), "by its \"required\""),
    ]);
}

#[test]
fn a_key_that_is_no_longer_enough_is_a_break() {
    check_breaks(&[
        (
            (at(GET, "/security"), Some(json!([{ "other": [] }]))),
            "not satisfied with",
        ),
        (
            (
                at(GET, "/security"),
                Some(json!([{ "key": [], "other": [] }])),
            ),
            "not satisfied with",
        ),
        (
            ("/paths/~1free/get/security", None),
            "not satisfied with the keys []",
        ),
        (
            (
                "/components/securitySchemes/key/scheme",
                Some(json!("basic")),
            ),
            "by its \"scheme\"",
        ),
        (
            ("/components/securitySchemes/key", None),
            "another security scheme",
        ),
    ]);
}

#[test]
fn whatever_only_adds_breaks_nothing() {
    let optional = json!({ "name": "new", "in": "query", "schema": { "type": "string" } });
    let cases: Vec<Edit> = vec![
        ("/paths/~1new", Some(json!({ "get": {} }))),
        ("/paths/~1get/post", Some(json!({}))),
        (at(GET, "/summary"), Some(json!("Get"))),
        (at(GET, "/parameters/-"), Some(optional)),
        (at(GET, "/parameters/0/required"), None),
        (
            at(GET, "/parameters/1/description"),
            Some(json!("How many")),
        ),
        (at(GET, "/parameters/1/schema/minimum"), None),
        (at(GET, "/parameters/1/schema/maximum"), Some(json!(10))),
        (
            at(GET, "/parameters/2/schema/items/enum/-"),
            Some(json!("c")),
        ),
        (at(GET, "/parameters/2/schema/items/enum"), None),
        (at(GET, "/responses/503"), Some(json!({}))),
        (at(GET, "/responses/200/headers"), Some(json!({ "x": {} }))),
        (at(GET, "/security"), Some(json!([]))),
        (
            at(GET, "/security"),
            Some(json!([{ "other": [] }, { "key": [] }])),
        ),
        (
            at(THING, "/properties/new"),
            Some(json!({ "type": "string" })),
        ),
        (at(THING, "/required/-"), Some(json!("at"))),
        (at(THING, "/properties/at/maxLength"), Some(json!(24))),
        (at(THING, "/properties/at/example"), Some(json!("2015"))),
    ];
    for edit in cases {
        let new = edited(&edit);
        assert_ne!(new, made_up(), "{edit:?}");
        assert_eq!(breaks(&made_up(), &new), BTreeSet::new(), "{edit:?}");
    }
}
