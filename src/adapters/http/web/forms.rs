//! Forms: what was typed, and what of it was wrong.

use std::borrow::Cow;
use std::fmt::Display;
use std::time::Duration;

use poem::Request;
use poem::error::ReadBodyError;
use poem::http::StatusCode;

use super::Rejection;
use super::views::sentence;
use crate::app::UseCaseError;
use crate::domain::{
    Comment, Description, Draft, Name, Periodicity, Recipient, Slug, Update, Watcher, WatcherId,
};
use crate::ports::Key;

/// The longest form, in bytes: a description, a name and a hundred addresses fit in twice, as they were and as they are
/// to be.
const LONGEST: usize = 256 * 1024;
/// How long a client may take to send it.
const PATIENCE: Duration = Duration::from_secs(10);

/// The fields of a form that was sent.
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    /// Reads the form that a request carries.
    ///
    /// # Errors
    ///
    /// If it is none, too large or too slow.
    pub(super) async fn read(request: &mut Request) -> Result<Self, Rejection> {
        let media_type = request.content_type().unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim();
        if !media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(Rejection::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "this is not sent as a form (application/x-www-form-urlencoded)",
            ));
        }
        let body = request.take_body().into_bytes_limit(LONGEST);
        let body = tokio::time::timeout(PATIENCE, body).await.map_err(|_| {
            Rejection::new(
                StatusCode::REQUEST_TIMEOUT,
                "the form took too long to arrive",
            )
        })?;
        let body = body.map_err(|error| match error {
            ReadBodyError::PayloadTooLarge => Rejection::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("the form is larger than {LONGEST} bytes"),
            ),
            _ => Rejection::bad_request("the form did not arrive as a whole"),
        })?;
        let fields = form_urlencoded::parse(&body);
        // Browsers send lines of texts with the ends that mail has.
        let fields = fields.map(|(name, value)| (name.into_owned(), value.replace("\r\n", "\n")));
        Ok(Self(fields.collect()))
    }

    /// What was typed into a field; nothing if there is no such field.
    pub(super) fn field(&self, name: &str) -> &str {
        let mut fields = self.0.iter();
        fields
            .find(|(known, _)| known == name)
            .map_or("", |(_, value)| value)
    }

    /// The watcher that the form is about: the very one that was shown, whatever the watchers are called by now.
    pub(super) fn watcher(&self, slug: &Slug) -> Key {
        WatcherId::parse(self.field("id")).map_or_else(|_| Key::Slug(slug.clone()), Key::Id)
    }

    /// The comment on a trigger, a pause or its end.
    ///
    /// # Errors
    ///
    /// If it is too long.
    pub(super) fn comment(&self) -> Result<Comment, Rejection> {
        Comment::parse(self.field("comment"))
            .map_err(|error| Rejection::bad_request(format!("the comment {error}")))
    }
}

/// What somebody has typed, or is shown to change, about a watcher.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entries {
    /// The identifier of a watcher that there is.
    pub(super) id: String,
    pub(super) name: String,
    pub(super) periodicity: String,
    pub(super) description: String,
    /// One on each line.
    pub(super) addresses: String,
    pub(super) paused: bool,
}

/// What was wrong, field by field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Complaints {
    pub(super) name: Option<String>,
    pub(super) periodicity: Option<String>,
    pub(super) description: Option<String>,
    pub(super) addresses: Option<String>,
    /// What is wrong with the form as a whole.
    pub(super) form: Option<String>,
    /// What tells it to programs, if it is not just a matter of fields.
    status: Option<StatusCode>,
}

impl Complaints {
    /// Something is wrong with the form as a whole.
    pub(super) fn with_form(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            form: Some(message.into()),
            status: Some(status),
            ..Self::default()
        }
    }

    /// What a use case has to say of a form.
    ///
    /// # Errors
    ///
    /// If there is no such watcher, and so no form.
    pub(super) fn of(error: UseCaseError) -> Result<Self, Rejection> {
        if let UseCaseError::NameTaken = error {
            let message = "Another watcher has this name, or one that differs from it in signs and capitals only.";
            return Ok(Self {
                name: Some(message.to_owned()),
                status: Some(StatusCode::CONFLICT),
                ..Self::default()
            });
        }
        let rejection = Rejection::from(error);
        match rejection.status() {
            StatusCode::NOT_FOUND => Err(rejection),
            status => Ok(Self::with_form(status, sentence(&rejection))),
        }
    }

    /// The status of a page that shows them.
    pub(super) fn status(&self) -> StatusCode {
        match self.status {
            Some(status) => status,
            None if self.is_empty() => StatusCode::OK,
            None => StatusCode::UNPROCESSABLE_ENTITY,
        }
    }

    /// The title of a page that shows them: it is what is read out first.
    pub(super) fn title(&self, title: &str) -> String {
        let error = if self.is_empty() { "" } else { "Error: " };
        format!("{error}{title}")
    }

    /// Whether there is nothing to complain about.
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl From<&Form> for Entries {
    fn from(form: &Form) -> Self {
        Self::read(form, "")
    }
}

impl From<&Watcher> for Entries {
    fn from(watcher: &Watcher) -> Self {
        let addresses: Vec<_> = watcher.recipients.iter().map(Recipient::as_str).collect();
        Self {
            id: watcher.id.to_string(),
            name: watcher.name.as_str().to_owned(),
            periodicity: watcher.periodicity.to_string(),
            description: watcher.description.as_str().to_owned(),
            addresses: addresses.join("\n"),
            paused: watcher.state.is_paused(),
        }
    }
}

impl Entries {
    /// What the names of fields begin with that hold what was shown.
    pub(super) const SHOWN: &str = "shown-";

    /// What the form showed before somebody typed.
    pub(super) fn shown(form: &Form) -> Self {
        Self::read(form, Self::SHOWN)
    }

    fn read(form: &Form, prefix: &str) -> Self {
        let typed = |name| form.field(&format!("{prefix}{name}")).to_owned();
        Self {
            id: form.field("id").to_owned(),
            name: typed("name"),
            periodicity: typed("periodicity"),
            description: typed("description"),
            addresses: typed("addresses"),
            paused: !typed("paused").is_empty(),
        }
    }

    /// The texts, by the names of their fields.
    pub(super) fn fields(&self) -> [(&'static str, &str); 4] {
        [
            ("name", &self.name),
            ("periodicity", &self.periodicity),
            ("description", &self.description),
            ("addresses", &self.addresses),
        ]
    }

    /// The watcher that is asked for.
    ///
    /// # Errors
    ///
    /// [`Complaints`] about every field that is wrong.
    pub(super) fn draft(&self) -> Result<Draft, Box<Complaints>> {
        let mut complaints = Complaints::default();
        let name = note(Name::parse(&self.name), &mut complaints.name);
        let periodicity = note(
            Periodicity::parse(&self.periodicity),
            &mut complaints.periodicity,
        );
        let description = note(
            Description::parse(&self.description),
            &mut complaints.description,
        );
        let recipients = note(recipients(&self.addresses), &mut complaints.addresses);
        match (name, periodicity, description, recipients) {
            (Some(name), Some(periodicity), Some(description), Some(recipients)) => Ok(Draft {
                name,
                description,
                periodicity,
                recipients,
                paused: self.paused,
            }),
            _ => Err(Box::new(complaints)),
        }
    }

    /// What is to become different from what the form has `shown`. What was not touched stays as it is by now, also if
    /// somebody else has changed it meanwhile, or nobody could type it.
    ///
    /// # Errors
    ///
    /// [`Complaints`] about every field that is wrong.
    pub(super) fn update(&self, shown: &Self) -> Result<Update, Box<Complaints>> {
        let mut complaints = Complaints::default();
        let typed = |new: &str, shown: &str| (new.trim() != shown.trim()).then(|| new.to_owned());
        // Browsers drop the line breaks of what has one line.
        let shown_name = shown.name.replace('\n', "");
        let update = Update {
            name: typed(&self.name, &shown_name)
                .and_then(|name| note(Name::parse(&name), &mut complaints.name)),
            description: typed(&self.description, &shown.description)
                .and_then(|text| note(Description::parse(&text), &mut complaints.description)),
            periodicity: typed(&self.periodicity, &shown.periodicity)
                .and_then(|text| note(Periodicity::parse(&text), &mut complaints.periodicity)),
            recipients: typed(&self.addresses, &shown.addresses)
                .and_then(|text| note(recipients(&text), &mut complaints.addresses)),
        };
        if complaints.is_empty() {
            Ok(update)
        } else {
            Err(Box::new(complaints))
        }
    }
}

/// What was read, or else a complaint at its place. The errors of the domain go on from the name of what is wrong.
fn note<T, E: Display>(read: Result<T, E>, complaint: &mut Option<String>) -> Option<T> {
    read.map_err(|error| *complaint = Some(format!("This {error}.")))
        .ok()
}

/// Why a list of addresses cannot be used.
#[derive(Debug, thiserror::Error)]
enum InvalidAddresses {
    #[error("has something in it that is not an e-mail address: {0}")]
    NoAddress(String),
    #[error("has more than {} addresses in it", Recipient::MAX_PER_WATCHER)]
    TooMany,
}

/// Reads addresses that are separated by lines, commas, semicolons or spaces.
fn recipients(text: &str) -> Result<Vec<Recipient>, InvalidAddresses> {
    let separates = |c: char| c.is_whitespace() || matches!(c, ',' | ';');
    let parts = text.split(separates).filter(|part| !part.is_empty());
    let parse = |part: &str| {
        Recipient::parse(part).map_err(|_| InvalidAddresses::NoAddress(part.to_owned()))
    };
    let recipients: Vec<_> = parts.map(parse).collect::<Result<_, _>>()?;
    if recipients.len() > Recipient::MAX_PER_WATCHER {
        return Err(InvalidAddresses::TooMany);
    }
    Ok(recipients)
}

/// Reads the query of a page; of fields that are repeated the last one counts.
pub(super) fn query<'a>(request: &'a Request, name: &str) -> Option<Cow<'a, str>> {
    let query = request.uri().query().unwrap_or_default();
    form_urlencoded::parse(query.as_bytes())
        .filter(|(known, _)| known == name)
        .last()
        .map(|(_, value)| value)
}
