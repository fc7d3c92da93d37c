//! HTTP servers for those who know no peer yet: lists of addresses, and a place for two to meet.

pub(crate) mod limits;
mod listener;
mod origin;
mod peers;
mod piping;
mod refusal;
mod sealed;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use swarm::rendezvous;
use thiserror::Error;
use tokio::time::timeout;

pub(crate) use self::listener::Listener;
pub(crate) use self::origin::Origin;
use self::peers::Peers;
use self::piping::Piping;
use self::refusal::Refusal;
use self::sealed::{Key, Sealed, Slot};

/// A body that was being passed on broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the sender broke off")]
pub(crate) struct Aborted;

type Content = UnsyncBoxBody<Bytes, Aborted>;
type Answer = Response<Content>;

/// What one listener serves.
#[derive(Debug)]
pub(crate) struct Site {
    /// Lists of peers. A lock, held to change or to copy them: connections are tasks of their own.
    bootstrap: Option<Mutex<Lists>>,
    piping: Option<Piping>,
    /// The last address of `X-Forwarded-For` is that of whoever asks.
    behind_proxy: bool,
}

#[derive(Debug, Default)]
struct Lists {
    peers: Peers,
    sealed: Sealed,
}

/// Which path of the lists.
#[derive(Debug, PartialEq)]
enum Route {
    Announce,
    Peers,
    Key(Key),
    Slot(Key, Slot),
}

impl Site {
    /// A site with these parts.
    pub(crate) fn new(bootstrap: bool, piping: bool, behind_proxy: bool) -> Self {
        Self { bootstrap: bootstrap.then(Mutex::default), piping: piping.then(Piping::default), behind_proxy }
    }

    /// How long one connection may live.
    const fn life(&self) -> Duration {
        if self.piping.is_some() { limits::PIPE_LIFE } else { limits::LIFE }
    }

    /// Answers a request that came from this address.
    async fn answer(&self, request: Request<Incoming>, from: IpAddr) -> Result<Answer, Infallible> {
        let outcome = self.route(request, from).await;
        Ok(outcome.unwrap_or_else(|refusal| refusal.answer()))
    }

    async fn route(&self, request: Request<Incoming>, from: IpAddr) -> Result<Answer, Refusal> {
        if request.uri().path() == "/healthz" && request.method() == Method::GET {
            return Ok(text(StatusCode::OK, "ok\n"));
        }
        if let Some(lists) = &self.bootstrap
            && let Some(route) = Route::of(request.uri().path())?
        {
            let origin = Origin::new(self.forwarded(&request).unwrap_or(from));
            return answer_lists(lists, route, request, origin).await;
        }
        match &self.piping {
            Some(piping) => piping.answer(request).await,
            None => Err(Refusal::NotFound),
        }
    }

    /// Who asked the server in front of this one.
    fn forwarded(&self, request: &Request<Incoming>) -> Option<IpAddr> {
        let list = request.headers().get_all("x-forwarded-for").iter().next_back().filter(|_| self.behind_proxy)?;
        list.to_str().ok()?.rsplit(',').next()?.trim().parse().ok()
    }
}

impl Route {
    /// None if the path is not one of the lists.
    fn of(path: &str) -> Result<Option<Self>, Refusal> {
        let below = path.strip_prefix('/').and_then(|path| path.strip_prefix(rendezvous::SEALED)?.strip_prefix('/'));
        let Some(rest) = below else {
            return Ok(match path {
                "/announce" => Some(Self::Announce),
                "/peers" => Some(Self::Peers),
                _ => None,
            });
        };
        let wrong = || Refusal::Malformed("a place has 64 lower-case hexadecimal digits, a slot 32".to_owned());
        let route = match rest.split_once('/') {
            None => Self::Key(digits(rest).ok_or_else(wrong)?),
            Some((key, slot)) => Self::Slot(digits(key).ok_or_else(wrong)?, digits(slot).ok_or_else(wrong)?),
        };
        Ok(Some(route))
    }
}

/// Bytes of lower-case hexadecimal digits, two for each.
fn digits<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0; N];
    if text.len() != 2 * N || !text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

async fn answer_lists(
    lists: &Mutex<Lists>,
    route: Route,
    request: Request<Incoming>,
    origin: Origin,
) -> Result<Answer, Refusal> {
    let lock = || lists.lock().unwrap_or_else(PoisonError::into_inner);
    match (route, request.method().clone()) {
        (Route::Announce, Method::POST) => {
            let body = read(request, limits::ANNOUNCEMENT_BYTES).await?;
            lock().peers.announce(origin, &body, Instant::now())?;
            Ok(with_type("application/json", "{\"ok\":true}"))
        }
        (Route::Announce, _) => Err(Refusal::Method("POST")),
        (Route::Peers, Method::GET) => Ok(with_type("application/json", lock().peers.list(Instant::now()))),
        (Route::Peers, _) => Err(Refusal::Method("GET")),
        (Route::Key(key), Method::GET) => {
            Ok(with_type("application/octet-stream", lock().sealed.get(key, Instant::now())))
        }
        (Route::Key(_), _) => Err(Refusal::Method("GET")),
        (Route::Slot(key, slot), Method::PUT) => {
            let ttl = ttl(request.uri().query())?;
            let body = read(request, rendezvous::MAX_BODY).await?;
            lock().sealed.put((key, slot), body, ttl, origin, Instant::now())?;
            Ok(empty())
        }
        (Route::Slot(key, slot), Method::DELETE) => {
            lock().sealed.remove(key, slot);
            Ok(empty())
        }
        (Route::Slot(..), _) => Err(Refusal::Method("PUT, DELETE")),
    }
}

/// `ttl=SECONDS` of a query.
fn ttl(query: Option<&str>) -> Result<Option<u64>, Refusal> {
    let value = query.unwrap_or_default().split('&').find_map(|part| part.strip_prefix("ttl="));
    value.map(str::parse).transpose().map_err(|_why| Refusal::Malformed("a ttl is a number of seconds".to_owned()))
}

/// A whole body of at most `most` bytes.
async fn read(request: Request<Incoming>, most: usize) -> Result<Bytes, Refusal> {
    if request.body().size_hint().lower() > most as u64 {
        return Err(Refusal::TooLarge(most as u64));
    }
    match timeout(limits::BODY, Limited::new(request.into_body(), most).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::TooLarge(most as u64)),
        Ok(Err(_)) => Err(Refusal::Malformed("the body broke off".to_owned())),
        Err(_) => Err(Refusal::Late(limits::BODY.as_secs())),
    }
}

fn text(status: StatusCode, words: impl Into<Bytes>) -> Answer {
    let mut answer = with_type("text/plain; charset=utf-8", words);
    *answer.status_mut() = status;
    answer
}

fn with_type(kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()).map_err(|never| match never {}).boxed_unsync());
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

fn empty() -> Answer {
    let mut answer = Response::new(piping::nothing());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_strictly() {
        let (key, slot) = ("0a".repeat(32), "ff".repeat(16));
        let of = |path: &str| Route::of(path);
        assert_eq!(of("/announce"), Ok(Some(Route::Announce)));
        assert_eq!(of("/announce/"), Ok(None));
        assert_eq!(of(&format!("/sealed/{key}")), Ok(Some(Route::Key([10; 32]))));
        assert_eq!(of(&format!("/sealed/{key}/{slot}")), Ok(Some(Route::Slot([10; 32], [255; 16]))));
        for wrong in
            [String::new(), key.to_uppercase(), format!("{key}/"), format!("{key}/{slot}/"), format!("/{slot}")]
        {
            assert!(matches!(of(&format!("/sealed/{wrong}")), Err(Refusal::Malformed(_))), "{wrong}");
        }
        assert_eq!(ttl(Some("a=b&ttl=7")), Ok(Some(7)));
        assert_eq!(ttl(None), Ok(None));
        assert!(ttl(Some("ttl=-1")).is_err());
    }
}
