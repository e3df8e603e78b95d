//! Parameters: their schemas for the description, and their way into the domain.

use std::borrow::Cow;
use std::fmt::Display;
use std::marker::PhantomData;

use poem_openapi::registry::{MetaSchema, MetaSchemaRef, Registry};
use poem_openapi::types::{
    ParseError, ParseFromJSON, ParseFromParameter, ParseResult, ToJSON, Type,
};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::errors::Rejection;
use crate::domain::{
    Comment, Description, InvalidComment, InvalidDescription, InvalidId, InvalidName,
    InvalidPeriodicity, InvalidRecipient, InvalidSearch, Name, Periodicity, Recipient, Search,
    Slug, WatcherId,
};
use crate::ports::Key;

/// A value that a parameter can have.
pub(super) trait Parameter: Sized + Send + Sync {
    /// Why a text is not such a value: the end of a sentence that begins with the parameter's name.
    type Error: Display;

    /// What the schema is called, if it has constraints: clients make a type of each, and better one for all
    /// operations than one for every parameter.
    const SCHEMA_NAME: Option<&'static str>;

    /// Reads the value.
    ///
    /// # Errors
    ///
    /// If the text is not one.
    fn parse(text: &str) -> Result<Self, Self::Error>;

    /// The value's schema.
    fn schema() -> MetaSchema;
}

/// The text of a parameter whose value is a `T`. It is read by `required` and its sisters, not before, so
/// that the error names the parameter and is ours.
#[derive(Clone, Debug)]
pub(super) struct Text<T>(String, PhantomData<T>);

/// A boolean, in the words of the interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flag(pub(super) bool);

/// Reads a parameter.
pub(super) fn required<T: Parameter>(name: &str, text: &Text<T>) -> Result<T, Rejection> {
    T::parse(&text.0)
        .map_err(|error| Rejection::bad_request(format!("the parameter \"{name}\" {error}")))
}

/// Reads a parameter that may be absent.
pub(super) fn optional<T: Parameter>(
    name: &str,
    text: Option<&Text<T>>,
) -> Result<Option<T>, Rejection> {
    text.map(|text| required(name, text)).transpose()
}

/// Reads a flag that is off when it is absent.
pub(super) fn flag(name: &str, text: Option<&Text<Flag>>) -> Result<bool, Rejection> {
    Ok(optional(name, text)?.is_some_and(|Flag(flag)| flag))
}

/// Reads the addresses of the parameter `email`; a single `-` or empty value stands for none.
pub(super) fn recipients(texts: &[Text<Recipient>]) -> Result<Vec<Recipient>, Rejection> {
    if let [Text(only, _)] = texts
        && (only.is_empty() || only == "-")
    {
        return Ok(Vec::new());
    }
    if texts.len() > Recipient::MAX_PER_WATCHER {
        let most = Recipient::MAX_PER_WATCHER;
        return Err(Rejection::bad_request(format!(
            "the parameter \"email\" is given more than {most} times"
        )));
    }
    let read = |text: &Text<Recipient>| {
        Recipient::parse(&text.0).map_err(|error| {
            Rejection::bad_request(format!("the parameter \"email\" {error}: {:?}", text.0))
        })
    };
    texts.iter().map(read).collect()
}

/// The watcher that a request names, by exactly one of the parameters that it may do so by.
pub(super) fn key(
    id: Option<Text<WatcherId>>,
    slug: Option<Text<Slug>>,
    name: Option<Text<Name>>,
) -> Result<Key, Rejection> {
    match (id, slug, name) {
        (Some(id), None, None) => WatcherId::parse(&id.0)
            .map(Key::Id)
            .map_err(|_| not_found()),
        (None, Some(slug), None) => Ok(Key::Slug(Slug::from_text(slug.0))),
        (None, None, Some(name)) => Name::parse(&name.0).map(Key::Name).map_err(|_| not_found()),
        (None, None, None) => Err(Rejection::bad_request(
            "a watcher has to be named: one of the parameters \"id\", \"slug\" and \"name\" is missing",
        )),
        _ => Err(Rejection::bad_request(
            "only one of the parameters \"id\", \"slug\" and \"name\" can name the watcher",
        )),
    }
}

/// The watcher that an update names: not by its name, which there is the new one.
pub(super) fn key_without_name(
    id: Option<Text<WatcherId>>,
    slug: Option<Text<Slug>>,
) -> Result<Key, Rejection> {
    match (&id, &slug) {
        (None, None) => Err(Rejection::bad_request(
            "a watcher has to be named: one of the parameters \"id\" and \"slug\" is missing",
        )),
        (Some(_), Some(_)) => Err(Rejection::bad_request(
            "only one of the parameters \"id\" and \"slug\" can name the watcher",
        )),
        _ => key(id, slug, None),
    }
}

/// What nobody can be called is nobody's name.
fn not_found() -> Rejection {
    crate::app::UseCaseError::NotFound.into()
}

impl<T: Parameter> Type for Text<T> {
    const IS_REQUIRED: bool = true;
    type RawValueType = Self;
    type RawElementValueType = Self;

    fn name() -> Cow<'static, str> {
        T::SCHEMA_NAME.unwrap_or("string").into()
    }

    fn schema_ref() -> MetaSchemaRef {
        match T::SCHEMA_NAME {
            Some(name) => MetaSchemaRef::Reference(name.to_owned()),
            None => MetaSchemaRef::Inline(Box::new(T::schema())),
        }
    }

    fn register(registry: &mut Registry) {
        if let Some(name) = T::SCHEMA_NAME {
            registry.create_schema::<Self, _>(name.to_owned(), |_| T::schema());
        }
    }

    fn as_raw_value(&self) -> Option<&Self> {
        Some(self)
    }

    fn raw_element_iter<'a>(&'a self) -> Box<dyn Iterator<Item = &'a Self> + 'a> {
        Box::new(std::iter::once(self))
    }
}

impl<T: Parameter> ParseFromParameter for Text<T> {
    fn parse_from_parameter(value: &str) -> ParseResult<Self> {
        Ok(Self(value.to_owned(), PhantomData))
    }
}

impl<T: Parameter> ParseFromJSON for Text<T> {
    fn parse_from_json(value: Option<Value>) -> ParseResult<Self> {
        match value.unwrap_or_default() {
            Value::String(text) => Ok(Self(text, PhantomData)),
            other => Err(ParseError::expected_type(other)),
        }
    }
}

impl<T: Parameter> ToJSON for Text<T> {
    fn to_json(&self) -> Option<Value> {
        Some(self.0.as_str().into())
    }
}

impl<T> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

/// An identifier is in answers what it is in requests, so that clients pass it on as it is.
impl From<WatcherId> for Text<WatcherId> {
    fn from(id: WatcherId) -> Self {
        Self(id.to_string(), PhantomData)
    }
}

/// Why a text is not a boolean.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a boolean: true, yes or 1; or false, no, 0 or empty")]
pub(super) struct InvalidFlag;

impl Parameter for Flag {
    type Error = InvalidFlag;

    const SCHEMA_NAME: Option<&'static str> = None;

    fn parse(text: &str) -> Result<Self, InvalidFlag> {
        match text {
            "true" | "yes" | "1" => Ok(Self(true)),
            "false" | "no" | "0" | "" => Ok(Self(false)),
            _ => Err(InvalidFlag),
        }
    }

    // For programs, which have a type for it and need no other word; the description of the whole names those.
    fn schema() -> MetaSchema {
        MetaSchema::new("boolean")
    }
}

/// Takes over a type of the domain that has a `parse` of its own.
macro_rules! parameter {
    ($type:ty, $error:ty, $name:expr, $schema:expr) => {
        impl Parameter for $type {
            type Error = $error;

            const SCHEMA_NAME: Option<&'static str> = $name;

            fn parse(text: &str) -> Result<Self, $error> {
                <$type>::parse(text)
            }

            fn schema() -> MetaSchema {
                $schema
            }
        }
    };
}

fn text(min: usize, max: usize, description: &'static str, example: &str) -> MetaSchema {
    MetaSchema {
        description: Some(description),
        min_length: (min > 0).then_some(min),
        max_length: Some(max),
        example: Some(example.into()),
        ..MetaSchema::new("string")
    }
}

parameter!(
    Name,
    InvalidName,
    Some("Name"),
    text(
        1,
        Name::MAX_CHARS,
        "What people call a watcher: one line that has letters or digits.",
        "My First Watcher"
    )
);
parameter!(
    Description,
    InvalidDescription,
    Some("Description"),
    text(
        0,
        Description::MAX_CHARS,
        "What a watcher is for.",
        "The nightly dump of db1"
    )
);
parameter!(
    Comment,
    InvalidComment,
    Some("Comment"),
    text(
        0,
        Comment::MAX_CHARS,
        "What is kept in the history with an event.",
        "long form trigger url"
    )
);
parameter!(
    Periodicity,
    InvalidPeriodicity,
    None,
    MetaSchema {
        minimum: Some(0.001),
        maximum: Some(Periodicity::MAX.seconds()),
        example: Some(3600.into()),
        ..MetaSchema::new_with_format("number", "double")
    }
);
parameter!(
    WatcherId,
    InvalidId,
    Some("WatcherId"),
    MetaSchema {
        description: Some(
            "The identifier of a watcher, which is also the path of its trigger URL."
        ),
        pattern: Some("^[a-z]{8}$".to_owned()),
        example: Some("fbkvlsby".into()),
        ..MetaSchema::new("string")
    }
);
// The format is not `email`: a single hyphen stands for no address at all.
parameter!(
    Recipient,
    InvalidRecipient,
    Some("Recipient"),
    text(
        0,
        320,
        "An address for mail, or, as the only one, `-` for none.",
        "ops@example.com"
    )
);
parameter!(
    Search,
    InvalidSearch,
    Some("Search"),
    text(0, Search::MAX_CHARS, "A regular expression.", "^my-")
);

impl Parameter for Slug {
    type Error = std::convert::Infallible;

    const SCHEMA_NAME: Option<&'static str> = Some("Slug");

    fn parse(text: &str) -> Result<Self, Self::Error> {
        Ok(Self::from_text(text.to_owned()))
    }

    fn schema() -> MetaSchema {
        text(
            1,
            Name::MAX_CHARS,
            "A name in lower case with hyphens, unique among watchers.",
            "my-first-watcher",
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Checks that `text` is a `T` or is refused in one line that names the parameter.
    fn check<T: Parameter>(text: &str) -> Result<Option<T>, TestCaseError> {
        match required::<T>("parameter", &Text(text.to_owned(), PhantomData)) {
            Ok(value) => Ok(Some(value)),
            Err(error) => {
                let message = error.to_string();
                prop_assert!(
                    message.starts_with("the parameter \"parameter\" "),
                    "{message}"
                );
                prop_assert!(!message.contains(char::is_control), "{message:?}");
                Ok(None)
            }
        }
    }

    fn any_text() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<String>(),
            "[ -~]{0,20}",
            "[-+]?[0-9]{0,25}[.,]?[0-9]{0,25}([eE][-+]?[0-9]{1,5})?",
            "[a-z\\s\u{0}-\u{1f}\u{202e}<>\"@.,;:]{0,30}",
            "[\\[\\](){}*+?|^$.a\\\\0-9,&~-]{0,30}",
            any::<f64>().prop_map(|number| number.to_string()),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn every_text_is_a_value_or_is_refused_in_one_line(text in any_text()) {
            check::<WatcherId>(&text)?;
            check::<Slug>(&text)?;
            check::<Flag>(&text)?;
            check::<Description>(&text)?;
            check::<Comment>(&text)?;
            check::<Search>(&text)?;
            if let Some(name) = check::<Name>(&text)? {
                prop_assert!(!name.as_str().contains(char::is_control));
                prop_assert!(!Slug::of(&name).as_str().is_empty());
            }
            if let Some(periodicity) = check::<Periodicity>(&text)? {
                prop_assert!(periodicity.millis() > 0 && periodicity <= Periodicity::MAX);
            }
            if let Some(recipient) = check::<Recipient>(&text)? {
                prop_assert!(!recipient.as_str().contains(char::is_control));
            }
            let email = Text(text.clone(), PhantomData);
            if let Err(error) = recipients(&[email.clone(), email]) {
                prop_assert!(!error.to_string().contains(char::is_control), "{error}");
            }
        }
    }
}
