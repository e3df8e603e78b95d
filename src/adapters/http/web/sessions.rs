//! Who is visiting: sessions that nobody else can make, and the tokens of forms.
//!
//! Who has shown the key gets a session, which is all in its cookie, signed with a key that is made of the `auth_key`. So
//! it outlives a restart, holds on every server that has the same key, and ends for everybody when the key is changed.
//! That somebody has signed out is known only here, and only until the program ends.
//!
//! Everybody else gets a number. It claims nothing, and so needs no signature, from which the key could be guessed. Its
//! cookie has another name: links on other sites come without our cookies, and the number that is given out then must
//! not take the place of a session.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use poem::Request;
use poem::http::{HeaderValue, header};
use rand::RngExt;
use ring::{digest, hmac, pbkdf2};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

use crate::domain::Timestamp;
use crate::ports::Clock;

/// The cookie of those who have shown the key.
const SESSION: &str = "nights_watch";
/// The cookie of everybody else.
const VISIT: &str = "nights_watch_visit";
/// How long a session lasts after it was last used.
const LIFETIME: Duration = Duration::from_hours(7 * 24);
/// How much of that may have passed before a new cookie says that it was used.
const RENEWAL: Duration = Duration::from_hours(1);

/// What makes and reads cookies.
pub(super) struct Sessions {
    auth_key: Option<Arc<SecretString>>,
    /// What sessions are signed with, once there are any.
    key: OnceLock<hmac::Key>,
    clock: Arc<dyn Clock>,
    /// Whether cookies are for encrypted connections only.
    is_secure: bool,
    /// Sessions that were signed out, until they would have ended.
    // A std mutex: no await happens under it, and the work under it is short.
    signed_out: Mutex<HashMap<u128, Timestamp>>,
}

/// Somebody with a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Visitor {
    number: u128,
    /// Until when the session lasts of somebody who has shown the key; `None` for everybody else.
    until: Option<Timestamp>,
}

impl Visitor {
    /// Somebody new.
    pub(super) fn new() -> Self {
        Self {
            number: rand::rng().random(),
            until: None,
        }
    }

    /// Whether this visitor has shown the key.
    pub(super) const fn is_signed_in(&self) -> bool {
        self.until.is_some()
    }

    /// What shows that a form was made for this visitor: other sites do not know the number. (Those next door, on another
    /// port or in a part of the same domain, can give a browser a number of theirs, as long as nobody signs in.)
    pub(super) fn form_token(&self) -> String {
        let text = format!("form:{:032x}", self.number);
        hex(digest::digest(&digest::SHA256, text.as_bytes()).as_ref())
    }

    /// Whether `token` is the one of this visitor's forms.
    pub(super) fn is_form_token(&self, token: &str) -> bool {
        let expected = self.form_token();
        expected.as_bytes().ct_eq(token.as_bytes()).into()
    }
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

    /// Somebody who has just shown the key. The number is a new one: whoever knew the old one is not let in by it.
    pub(super) fn sign_in(&self) -> Visitor {
        Visitor {
            until: Some(self.clock.now().after(LIFETIME)),
            ..Visitor::new()
        }
    }

    /// Whose request it is: that of a session that holds, or else of somebody with a number.
    pub(super) fn visitor(&self, request: &Request) -> Option<Visitor> {
        let cookies = request.headers().get_all(header::COOKIE).iter();
        // Those of other programs may be no text.
        let cookies: Vec<&str> = cookies
            .flat_map(|cookies| cookies.as_bytes().split(|byte| *byte == b';'))
            .filter_map(|cookie| str::from_utf8(cookie).ok())
            .map(str::trim)
            .collect();
        let named = |name: &'static str| {
            let cookies = cookies.iter();
            cookies.filter_map(move |cookie| cookie.strip_prefix(name)?.strip_prefix('='))
        };
        named(SESSION)
            .filter_map(|value| self.read(value))
            .find(|visitor| self.holds(visitor))
            .or_else(|| {
                let number = named(VISIT).find_map(|value| u128::from_str_radix(value, 16).ok())?;
                Some(Visitor {
                    number,
                    until: None,
                })
            })
    }

    /// Whether it has neither ended nor been signed out.
    pub(super) fn holds(&self, visitor: &Visitor) -> bool {
        let is_over = visitor.until.is_some_and(|until| until <= self.clock.now());
        !is_over && !self.signed_out().contains_key(&visitor.number)
    }

    /// The same session with its whole lifetime ahead, if it is time for that.
    pub(super) fn renewed(&self, visitor: Visitor) -> Option<Visitor> {
        let whole = self.clock.now().after(LIFETIME);
        (visitor.until? < whole.before(RENEWAL)).then_some(Visitor {
            until: Some(whole),
            ..visitor
        })
    }

    /// Ends a session, also for cookies that somebody has copied.
    pub(super) fn sign_out(&self, visitor: Visitor) {
        if visitor.is_signed_in() {
            let now = self.clock.now();
            let mut signed_out = self.signed_out();
            signed_out.retain(|_, until| *until > now);
            // An older cookie of the same session ends before that.
            signed_out.insert(visitor.number, now.after(LIFETIME));
        }
    }

    fn signed_out(&self) -> MutexGuard<'_, HashMap<u128, Timestamp>> {
        self.signed_out
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// The header that gives a visitor the cookie.
    pub(super) fn cookie(&self, visitor: &Visitor) -> HeaderValue {
        let number = visitor.number;
        match visitor.until {
            None => self.header(VISIT, &format!("{number:032x}"), LIFETIME),
            Some(until) => {
                let claims = format!("{number:032x}.{}", until.millis());
                let signature = self.sign(&claims);
                self.header(SESSION, &format!("{claims}.{signature}"), LIFETIME)
            }
        }
    }

    /// The header that takes the cookie of a session away.
    pub(super) fn farewell(&self) -> HeaderValue {
        self.header(SESSION, "", Duration::ZERO)
    }

    fn header(&self, name: &str, value: &str, age: Duration) -> HeaderValue {
        let secure = if self.is_secure { "; Secure" } else { "" };
        let age = age.as_secs();
        let cookie =
            format!("{name}={value}; Path=/ui; Max-Age={age}; HttpOnly; SameSite=Strict{secure}");
        HeaderValue::from_str(&cookie).expect("letters, digits and signs of ASCII")
    }

    fn read(&self, value: &str) -> Option<Visitor> {
        let (claims, signature) = value.rsplit_once('.')?;
        if !bool::from(self.sign(claims).as_bytes().ct_eq(signature.as_bytes())) {
            return None;
        }
        let (number, until) = claims.split_once('.')?;
        Some(Visitor {
            number: u128::from_str_radix(number, 16).ok()?,
            until: Some(Timestamp::from_millis(until.parse().ok()?)),
        })
    }

    fn sign(&self, claims: &str) -> String {
        let key = self.key.get_or_init(|| self.make_key());
        hex(hmac::sign(key, claims.as_bytes()).as_ref())
    }

    /// Makes it slow to guess the `auth_key` from the cookie of a session. Without an `auth_key` nobody gets one, and
    /// nobody can have one.
    fn make_key(&self) -> hmac::Key {
        const ROUNDS: NonZeroU32 = NonZeroU32::new(100_000).unwrap();
        let mut key = [0; 32];
        match &self.auth_key {
            Some(auth_key) => pbkdf2::derive(
                pbkdf2::PBKDF2_HMAC_SHA256,
                ROUNDS,
                b"sessions of Night's Watch",
                auth_key.expose_secret().as_bytes(),
                &mut key,
            ),
            None => rand::rng().fill(&mut key),
        }
        hmac::Key::new(hmac::HMAC_SHA256, &key)
    }
}

/// Bytes as text that may stand in cookies and addresses.
pub(super) fn hex(bytes: &[u8]) -> String {
    let mut hex = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}
