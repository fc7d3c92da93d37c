//! Why a request is not done, and the status that says so.

use hyper::StatusCode;
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use thiserror::Error;

use super::{Answer, limits, text};

/// Why a request is not done. Nothing has changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum Refusal {
    /// There is nothing at this path.
    #[error("there is nothing here")]
    NotFound,
    /// The path is there for other methods.
    #[error("this path takes {0}")]
    Method(&'static str),
    /// The request is not what the path takes.
    #[error("{0}")]
    Malformed(String),
    /// Somebody announces an address that is not his.
    #[error("{0} is not the address that this request comes from")]
    Foreign(std::net::IpAddr),
    /// A page in a browser asks.
    #[error("this is for nodes, not for pages in browsers")]
    Browser,
    /// The body is too long.
    #[error("more than {0} bytes")]
    TooLarge(u64),
    /// It took too long.
    #[error("not within {0} s")]
    Late(u64),
    /// This address has as much here as one may have.
    #[error("too much from one address; try again later")]
    TooMany,
    /// There is no more room.
    #[error("full; try again later")]
    Full,
}

impl Refusal {
    const fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::Foreign(_) | Self::Browser => StatusCode::FORBIDDEN,
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Late(_) => StatusCode::REQUEST_TIMEOUT,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::Full => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The answer: a line that says why. It ends the connection where the body was not read to its end.
    pub(crate) fn answer(&self) -> Answer {
        let mut answer = text(self.status(), format!("{self}\n"));
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        match self {
            Self::Method(methods) => {
                headers.insert(ALLOW, HeaderValue::from_static(methods));
            }
            Self::TooMany | Self::Full => {
                headers.insert(RETRY_AFTER, limits::RETRY_AFTER.into());
            }
            Self::TooLarge(_) | Self::Late(_) => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        answer
    }
}
