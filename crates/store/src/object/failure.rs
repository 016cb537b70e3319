//! What a server or the network refused, as an error of a store.
//!
//! Input: errors of object_store. Output: those of the crate. object_store does not export the type that
//! holds a server's answer, and wraps some answers, such as those to a list request, as generic errors. So
//! the status and the code are read from its text, here and nowhere else. A test compares that text with what
//! object_store writes.
//!
//! Invariant: an error repeats only the status and the code of a server's answer. The message in the answer
//! can repeat what was sent, for example a session token.

use std::io;
use std::iter;

use crate::Error;

/// How object_store begins the text of an answer.
const REFUSED: &str = "Server returned non-2xx status code: ";

/// Where the clouds give their machines credentials. object_store asks there when it has found none
/// elsewhere.
const METADATA: [&str; 2] = ["//169.254.169.254/", "//metadata.google.internal/"];

/// What a server answered.
struct Answer<'a> {
    status: &'a str,
    code: Option<&'a str>,
}

impl<'a> Answer<'a> {
    fn parse(cause: &'a str) -> Option<Self> {
        let answer = cause.strip_prefix(REFUSED)?;
        let (status, body) = answer.split_once(':').unwrap_or((answer, ""));
        let code = body.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
        let code = code.map(|(code, _)| code).filter(|code| code.chars().all(char::is_alphanumeric));
        Some(Self { status, code })
    }

    fn is_denial(&self) -> bool {
        self.status.starts_with("401") || self.status.starts_with("403")
    }
}

/// Says what was being done, and to which object, when the server or the network refused.
pub(super) fn failure(action: &'static str, path: String, error: &object_store::Error) -> Error {
    match error {
        object_store::Error::NotFound { .. } if !lacks_bucket(error) => Error::NotFound { path },
        error => unavailable(action, path, error),
    }
}

fn lacks_bucket(error: &object_store::Error) -> bool {
    Answer::parse(&innermost(error)).is_some_and(|answer| answer.code == Some("NoSuchBucket"))
}

/// As [`failure`], where it is an error too that the object does not exist.
pub(super) fn unavailable(action: &'static str, path: String, error: &object_store::Error) -> Error {
    let cause = innermost(error);
    let answer = Answer::parse(&cause);
    let no_credentials = asked_machine(error);
    let is_denial = match error {
        _ if no_credentials => false,
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => true,
        _ => answer.as_ref().is_some_and(Answer::is_denial),
    };
    let kind = if is_denial { io::ErrorKind::PermissionDenied } else { io::ErrorKind::Other };
    let mut reason = match answer {
        Some(Answer { status, code: Some(code) }) => format!("the server answered {status}: {code}"),
        Some(Answer { status, code: None }) => format!("the server answered {status}"),
        None => cause,
    };
    if no_credentials {
        reason = format!("there are no credentials for it, nor does this machine have any: {reason}");
    }
    Error::Io { action, path, source: io::Error::new(kind, reason) }
}

/// The text of the innermost cause.
fn innermost(error: &object_store::Error) -> String {
    let first: &(dyn std::error::Error + 'static) = error;
    iter::successors(Some(first), |error| error.source()).last().unwrap_or(first).to_string()
}

fn asked_machine(error: &object_store::Error) -> bool {
    let all = error.to_string();
    METADATA.iter().any(|place| all.contains(place))
}
