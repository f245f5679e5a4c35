//! A request's head, parsed into values that can't be bad: path and parameters, content
//! negotiation, token.

pub mod accept;
pub(crate) mod auth;
pub(crate) mod question;
pub(crate) mod route;
