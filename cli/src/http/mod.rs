//! HTTP servers for those who know no peer yet: lists of addresses, and a place for two to meet.

mod door;
#[cfg(test)]
mod hostile;
mod life;
pub(crate) mod limits;
mod listener;
mod origin;
mod peers;
mod piping;
mod refusal;
mod sealed;

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Mutex, Once, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use swarm::rendezvous;
use thiserror::Error;
use tokio::time::timeout;

use self::life::Life;
pub(crate) use self::listener::Listener;
pub(crate) use self::origin::Origin;
use self::origin::Pace;
use self::peers::Peers;
use self::piping::Piping;
use self::refusal::Refusal;
use self::sealed::{Key, Sealed, Slot};
use crate::output::Output;

/// A body that was being passed on broke off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the sender broke off")]
pub(crate) struct Aborted;

/// Where a server in front says who asks.
const FORWARDED: &str = "x-forwarded-for";
const UNEXPECTED: &str = "requests name somebody else in X-Forwarded-For, which is not heeded: if another server is in front of \
    this one, say --behind-proxy, for all that it passes on counts as one address now";

type Content = UnsyncBoxBody<Bytes, Aborted>;
type Answer = Response<Content>;

/// What one listener serves.
#[derive(Debug)]
pub(crate) struct Site {
    /// Lists of peers. A lock, held to change or to copy them: connections are tasks of their own.
    bootstrap: Option<Mutex<Lists>>,
    piping: Option<Piping>,
    /// The last address of `X-Forwarded-For` is that of whoever asks, where the connection comes from a private network.
    behind_proxy: bool,
    /// Said once, where nobody said that there is another server in front.
    unexpected: Once,
}

#[derive(Debug, Default)]
struct Lists {
    peers: Peers,
    sealed: Sealed,
    pace: Pace,
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
        Self {
            bootstrap: bootstrap.then(Mutex::default),
            piping: piping.then(Piping::new),
            behind_proxy,
            unexpected: Once::new(),
        }
    }

    /// Answers a request that came from this address.
    async fn answer(&self, request: Request<Incoming>, from: IpAddr, life: Life) -> Result<Answer, Infallible> {
        let outcome = self.route(request, from, life).await;
        Ok(outcome.unwrap_or_else(|refusal| refusal.answer()))
    }

    async fn route(&self, request: Request<Incoming>, from: IpAddr, life: Life) -> Result<Answer, Refusal> {
        if request.uri().path() == "/healthz" && request.method() == Method::GET {
            return Ok(text(StatusCode::OK, "ok\n"));
        }
        let origin = self.origin(&request, from)?;
        if let Some(lists) = &self.bootstrap
            && let Some(route) = Route::of(request.uri().path())?
        {
            return answer_lists(lists, route, request, origin).await;
        }
        match &self.piping {
            Some(piping) => piping.answer(request, origin, life).await,
            None => Err(Refusal::NotFound),
        }
    }

    /// Who asks. Strangers who come past the server in front are not believed.
    fn origin(&self, request: &Request<Incoming>, from: IpAddr) -> Result<Origin, Refusal> {
        let from = Origin::new(from);
        let list = request.headers().get_all(FORWARDED).iter().next_back();
        if from.is_public() || !self.behind_proxy {
            if list.is_some() && !self.behind_proxy {
                self.unexpected.call_once(|| Output { json: false }.note(UNEXPECTED));
            }
            return Ok(from);
        }
        let last = list.and_then(|list| list.to_str().ok()?.rsplit(',').next()).map(str::trim);
        let ip = last.and_then(|last| {
            let bare = last.trim_start_matches('[').trim_end_matches(']');
            bare.parse().ok().or_else(|| Some(last.parse::<SocketAddr>().ok()?.ip()))
        });
        let unnamed = || Refusal::Malformed("the server in front does not say who asks: X-Forwarded-For".to_owned());
        ip.map(Origin::new).ok_or_else(unnamed)
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
    if !lock().pace.may_ask(origin, Instant::now()) {
        return Err(Refusal::TooMany);
    }
    // Pages in browsers would put their readers on lists. Nodes send neither header.
    if request.method() != Method::GET
        && ["origin", "sec-fetch-site"].iter().any(|name| request.headers().contains_key(*name))
    {
        return Err(Refusal::Browser);
    }
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
    let mut body = request.into_body();
    let all = async {
        let mut read = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_why| Refusal::Malformed("the body broke off".to_owned()))?;
            let data = frame.data_ref().map_or(&[][..], |data| data);
            if read.len() + data.len() > most {
                return Err(Refusal::TooLarge(most as u64));
            }
            // Copied: a part keeps all of the buffer that it was read into.
            read.extend_from_slice(data);
        }
        Ok(Bytes::from(read))
    };
    timeout(limits::BODY, all).await.unwrap_or(Err(Refusal::Late(limits::BODY.as_secs())))
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
