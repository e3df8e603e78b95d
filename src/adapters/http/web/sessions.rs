//! Who is visiting: cookies that nobody else can make, and the tokens of forms.
//!
//! A session is all in its cookie, signed with a key that is made of the `auth_key`. So it outlives a restart, holds on
//! every server that has the same key, and ends for everybody when the key is changed. Only who has signed out is
//! remembered here.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use poem::Request;
use poem::http::{HeaderValue, header};
use rand::RngExt;
use ring::{hmac, pbkdf2};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use crate::domain::Timestamp;
use crate::ports::Clock;

const COOKIE: &str = "nights_watch";
/// How long a session lasts after it was last used.
const LIFETIME: Duration = Duration::from_hours(7 * 24);
/// How much of that may have passed before a new cookie says that it was used.
const RENEWAL: Duration = Duration::from_hours(1);

/// What makes and reads cookies.
pub(super) struct Sessions {
    auth_key: Option<Arc<SecretString>>,
    /// What cookies are signed with, once somebody has come.
    key: OnceLock<hmac::Key>,
    clock: Arc<dyn Clock>,
    /// Whether cookies are for encrypted connections only.
    is_secure: bool,
    /// Sessions that were signed out, until they would have ended.
    // A std mutex: no await happens under it, and the work under it is short.
    signed_out: Mutex<HashMap<u128, Timestamp>>,
}

/// Somebody with a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Visitor {
    session: u128,
    until: Timestamp,
    /// Whether this visitor has shown the key.
    pub(super) is_signed_in: bool,
}

impl Sessions {
    /// Cookies that `auth_key` stands behind, if there is one.
    pub(super) fn new(
        auth_key: Option<Arc<SecretString>>,
        clock: Arc<dyn Clock>,
        is_secure: bool,
    ) -> Self {
        Self {
            auth_key,
            key: OnceLock::new(),
            clock,
            is_secure,
            signed_out: Mutex::default(),
        }
    }

    /// A visitor with a new session.
    pub(super) fn welcome(&self, is_signed_in: bool) -> Visitor {
        Visitor {
            session: rand::rng().random(),
            until: self.clock.now().after(LIFETIME),
            is_signed_in,
        }
    }

    /// Whose request it is; `None` for somebody without a session that holds.
    pub(super) fn visitor(&self, request: &Request) -> Option<Visitor> {
        let cookies = request.headers().get_all(header::COOKIE).iter();
        cookies
            .filter_map(|cookies| cookies.to_str().ok())
            .flat_map(|cookies| cookies.split(';'))
            .filter_map(|cookie| cookie.trim().strip_prefix(COOKIE)?.strip_prefix('='))
            .filter_map(|value| self.read(value))
            .find(|visitor| self.holds(visitor))
    }

    /// Whether a session has neither ended nor been signed out.
    pub(super) fn holds(&self, visitor: &Visitor) -> bool {
        let signed_out = self
            .signed_out
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        self.clock.now() < visitor.until && !signed_out.contains_key(&visitor.session)
    }

    /// The same session with its whole lifetime ahead, if it is time for that.
    pub(super) fn renewed(&self, visitor: Visitor) -> Option<Visitor> {
        let now = self.clock.now();
        (visitor.until < now.after(LIFETIME).before(RENEWAL)).then(|| Visitor {
            until: now.after(LIFETIME),
            ..visitor
        })
    }

    /// Ends a session, also for cookies that somebody has copied.
    pub(super) fn sign_out(&self, visitor: Visitor) {
        let now = self.clock.now();
        let mut signed_out = self
            .signed_out
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        signed_out.retain(|_, until| *until > now);
        // An older cookie of the same session ends before that.
        signed_out.insert(visitor.session, now.after(LIFETIME));
    }

    /// The header that gives a visitor the cookie.
    pub(super) fn cookie(&self, visitor: &Visitor) -> HeaderValue {
        let claims = visitor.claims();
        let signature = self.sign("session", &claims);
        self.header(&format!("{claims}.{signature}"), LIFETIME)
    }

    /// The header that takes the cookie away.
    pub(super) fn farewell(&self) -> HeaderValue {
        self.header("", Duration::ZERO)
    }

    fn header(&self, value: &str, age: Duration) -> HeaderValue {
        let secure = if self.is_secure { "; Secure" } else { "" };
        let age = age.as_secs();
        let cookie =
            format!("{COOKIE}={value}; Path=/ui; Max-Age={age}; HttpOnly; SameSite=Strict{secure}");
        HeaderValue::from_str(&cookie).expect("letters, digits and signs of ASCII")
    }

    /// What shows that a form was made for this visitor.
    pub(super) fn form_token(&self, visitor: &Visitor) -> String {
        self.sign("form", &format!("{:032x}", visitor.session))
    }

    /// Whether `token` is the one of this visitor's forms.
    pub(super) fn is_form_token(&self, visitor: &Visitor, token: &str) -> bool {
        self.form_token(visitor)
            .as_bytes()
            .ct_eq(token.as_bytes())
            .into()
    }

    fn read(&self, value: &str) -> Option<Visitor> {
        let (claims, signature) = value.rsplit_once('.')?;
        let expected = self.sign("session", claims);
        if !bool::from(expected.as_bytes().ct_eq(signature.as_bytes())) {
            return None;
        }
        let mut claims = claims.split('.');
        Some(Visitor {
            session: u128::from_str_radix(claims.next()?, 16).ok()?,
            until: Timestamp::from_millis(claims.next()?.parse().ok()?),
            is_signed_in: claims.next()? == "in",
        })
    }

    fn sign(&self, purpose: &str, text: &str) -> String {
        let key = self.key.get_or_init(|| self.make_key());
        let signature = hmac::sign(key, format!("{purpose}:{text}").as_bytes());
        let mut hex = String::new();
        for byte in signature.as_ref() {
            let _ = write!(hex, "{byte:02x}");
        }
        hex
    }

    /// Makes it slow to guess the `auth_key` from a cookie. Without an `auth_key` a cookie protects nothing but forms,
    /// which it does by being known to one browser only.
    fn make_key(&self) -> hmac::Key {
        const ROUNDS: NonZeroU32 = NonZeroU32::new(100_000).unwrap();
        let mut key = [0; 32];
        let auth_key = self.auth_key.as_ref();
        let auth_key = auth_key.map_or("", |key| key.expose_secret());
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            ROUNDS,
            b"sessions of Night's Watch",
            auth_key.as_bytes(),
            &mut key,
        );
        hmac::Key::new(hmac::HMAC_SHA256, &key)
    }
}

impl Visitor {
    /// What the cookie says, and the signature confirms.
    fn claims(&self) -> String {
        let word = if self.is_signed_in { "in" } else { "out" };
        format!("{:032x}.{}.{word}", self.session, self.until.millis())
    }
}
