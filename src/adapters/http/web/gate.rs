//! Signing in and out.

use std::time::Duration;

use poem::http::{StatusCode, header};
use poem::{Request, Response};
use secrecy::ExposeSecret;
use subtle::ConstantTimeEq;

use super::changes::{foreign_form, is_ours};
use super::forms::{self, Form};
use super::rooms::{local, path};
use super::{Access, House, Rejection, page, see, views};
use crate::adapters::http::guesses::Limit;

/// How many wrong keys may be typed at once, and how soon another one may be.
pub(super) const SIGN_INS: Limit = Limit::new(10, Duration::from_secs(10));

impl House {
    pub(super) fn show_sign_in(&self, request: &Request, access: Access) -> Response {
        let to = forms::query(request, "to").unwrap_or_default();
        let to = local(&to);
        if self.is_open() || access.visitor.is_signed_in() {
            return see(to);
        }
        let frame = self.frame(access, "Sign in");
        page(StatusCode::OK, views::sign_in(&frame, to, None))
    }

    pub(super) async fn sign_in(
        &self,
        request: &mut Request,
        access: Access,
    ) -> Result<Response, Rejection> {
        let form = Form::read(request).await?;
        let to = local(form.field("to"));
        let Some(key) = &self.auth_key else {
            return Ok(see(to));
        };
        // Perhaps in another tab.
        if access.visitor.is_signed_in() {
            return Ok(see(to));
        }
        let frame = self.frame(access, "Error: Sign in");
        let again =
            |status, complaint: &str| page(status, views::sign_in(&frame, to, Some(complaint)));
        if !is_ours(access, &form) {
            let complaint = "This form was made for another visit. Try again; the browser has to keep cookies for that.";
            return Ok(again(StatusCode::FORBIDDEN, complaint));
        }
        let given = form.field("key").as_bytes();
        let guess = match self.guesses.admit(request, "key", given) {
            Ok(guess) => guess,
            Err(rejection) => {
                let complaint =
                    "Too many wrong keys came from your address. Wait a little, then try again.";
                let mut response = again(rejection.status(), complaint);
                rejection.add_headers(response.headers_mut());
                return Ok(response);
            }
        };
        if !bool::from(given.ct_eq(key.expose_secret().as_bytes())) {
            guess.inspect(|guess| self.guesses.was_wrong(*guess));
            return Ok(again(StatusCode::FORBIDDEN, "This is not the key."));
        }
        guess.inspect(|guess| self.guesses.was_right(*guess));
        let visitor = self.sessions.sign_in();
        let mut response = see(to);
        let cookie = self.sessions.cookie(&visitor);
        response.headers_mut().insert(header::SET_COOKIE, cookie);
        Ok(response)
    }

    pub(super) async fn sign_out(
        &self,
        request: &mut Request,
        access: Access,
    ) -> Result<Response, Rejection> {
        let form = Form::read(request).await?;
        if !is_ours(access, &form) {
            return Err(foreign_form());
        }
        self.sessions.sign_out(access.visitor);
        let mut response = see(path::SIGN_IN);
        let farewell = self.sessions.farewell();
        response.headers_mut().insert(header::SET_COOKIE, farewell);
        Ok(response)
    }
}
