//! What asks web servers: bounded in time and in bytes, and with an error that can be read.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::header::{CONTENT_TYPE, RETRY_AFTER};
use reqwest::redirect::{Action, Attempt, Policy};
use reqwest::{Method, StatusCode};
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};
use url::{Host, Url};

use super::Reach;
use crate::discovery::SourceError;
use crate::rendezvous::MAX_ANSWER;

/// The client that all sources of a node share. It reads the certificates that the system trusts when it is first used.
#[derive(Debug, Clone, Default)]
pub(crate) struct Web(Arc<OnceCell<reqwest::Client>>);

/// A server, as its owner or a list names it.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    url: Url,
    /// As it is named in errors.
    pub(crate) host: String,
}

/// What is sent along, and as what.
pub(crate) type Body = (&'static str, Vec<u8>);

impl Server {
    /// `None` for what is no `http://` or `https://` URL, or has a password in it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut url = Url::parse(text).ok()?;
        url.set_query(None);
        url.set_fragment(None);
        let host = match url.port() {
            Some(port) => format!("{}:{port}", url.host_str()?),
            None => url.host_str()?.to_owned(),
        };
        let has_secrets = !url.username().is_empty() || url.password().is_some();
        (matches!(url.scheme(), "http" | "https") && !has_secrets).then_some(Self { url, host })
    }

    /// How far what is said there reaches: a server of this machine or network is for those who are there.
    pub(crate) fn reach(&self) -> Reach {
        let ip = match self.url.host() {
            Some(Host::Ipv4(ip)) => IpAddr::V4(ip),
            Some(Host::Ipv6(ip)) => IpAddr::V6(ip),
            Some(Host::Domain("localhost")) => return Reach::Host,
            _ => return Reach::World,
        };
        Reach::of(ip).unwrap_or(Reach::World)
    }

    /// The URL of something below it; `path` and `query` need no escapes.
    fn at(&self, path: &str, query: Option<&str>) -> Url {
        let mut url = self.url.clone();
        let base = url.path().trim_end_matches('/').to_owned();
        url.set_path(&format!("{base}/{path}"));
        url.set_query(query);
        url
    }
}

impl Web {
    async fn client(&self) -> Result<&reqwest::Client, SourceError> {
        let build = || async {
            // Certificates are read from files.
            let built = tokio::task::spawn_blocking(|| {
                reqwest::Client::builder()
                    .connect_timeout(CONNECT)
                    .dns_resolver(Arc::new(Names))
                    .redirect(Policy::custom(follow))
                    .referer(false)
                    .no_proxy()
                    .pool_max_idle_per_host(IDLE)
                    .user_agent(concat!("setowire/", env!("CARGO_PKG_VERSION")))
                    .build()
            });
            built.await.map_err(|_panicked| SourceError::Broken)?.map_err(|_refused| SourceError::Broken)
        };
        self.0.get_or_try_init(build).await
    }

    /// Asks a server for something, and returns all of its answer.
    ///
    /// # Errors
    ///
    /// The name, the connection, the time (`within`, for all of it), a status other than success, an answer above
    /// [`MAX_ANSWER`] bytes, of which no more than that is read.
    pub(crate) async fn ask(
        &self,
        server: &Server,
        method: Method,
        (path, query): (&str, Option<&str>),
        body: Option<Body>,
        within: Duration,
    ) -> Result<Vec<u8>, SourceError> {
        let client = self.client().await?;
        let timed_out = SourceError::TimedOut { after: within };
        let until = Instant::now() + within;
        let mut request = client.request(method, server.at(path, query));
        if let Some((kind, bytes)) = body {
            request = request.header(CONTENT_TYPE, kind).body(bytes);
        }
        let failed = |error: reqwest::Error| failure(&error, server, within);
        let sent = timeout_at(until, request.send()).await;
        let mut response = sent.map_err(|_elapsed| timed_out.clone())?.map_err(failed)?;
        if !response.status().is_success() {
            return Err(status(&response, server));
        }
        let mut answer = Vec::new();
        loop {
            let chunk = timeout_at(until, response.chunk()).await;
            let Some(chunk) = chunk.map_err(|_elapsed| timed_out.clone())?.map_err(failed)? else { return Ok(answer) };
            if answer.len() + chunk.len() > MAX_ANSWER {
                return Err(SourceError::Oversized { host: server.host.clone(), max: MAX_ANSWER });
            }
            answer.extend_from_slice(&chunk);
        }
    }
}

/// Looks names up, and says why if they have no address.
struct Names;

impl Resolve for Names {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            match tokio::net::lookup_host((name.as_str(), 0)).await {
                Ok(found) => {
                    let is_local = name.as_str() == "localhost" || name.as_str().ends_with(".local");
                    // Whoever owns a name must not lead us to what listens on this machine.
                    let may_be_asked = |addr: &SocketAddr| is_local || Reach::of(addr.ip()) != Some(Reach::Host);
                    let addrs: Vec<SocketAddr> = found.filter(may_be_asked).take(ADDRS).collect();
                    if addrs.is_empty() {
                        return Err(
                            Box::new(Unresolved(io::ErrorKind::AddrNotAvailable)) as Box<dyn Error + Send + Sync>
                        );
                    }
                    Ok(Box::new(addrs.into_iter()) as Addrs)
                }
                Err(error) => Err(Box::new(Unresolved(error.kind())) as Box<dyn Error + Send + Sync>),
            }
        })
    }
}

#[derive(Debug, thiserror::Error)]
#[error("no address: {0}")]
struct Unresolved(io::ErrorKind);

/// Only where the owner of the server may have meant it: to itself, or to its encrypted side.
fn follow(attempt: Attempt<'_>) -> Action {
    let allowed = attempt.previous().last().is_some_and(|from| {
        let to = attempt.url();
        let is_port_kept = from.port_or_known_default() == to.port_or_known_default();
        let is_default = from.port().is_none() && to.port().is_none();
        let is_encrypted = from.scheme() == "http" && to.scheme() == "https" && (is_default || is_port_kept);
        from.host_str() == to.host_str() && (is_encrypted || from.scheme() == to.scheme() && is_port_kept)
    });
    if allowed && attempt.previous().len() <= REDIRECTS { attempt.follow() } else { attempt.stop() }
}

fn status(response: &reqwest::Response, server: &Server) -> SourceError {
    let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let retry = seconds.map(|seconds| Duration::from_secs(seconds).min(LONGEST_REST));
    SourceError::Status { host: server.host.clone(), status: response.status().as_u16(), retry }
}

fn failure(error: &reqwest::Error, server: &Server, within: Duration) -> SourceError {
    let host = || server.host.clone();
    if error.is_timeout() {
        return SourceError::TimedOut { after: within.min(if error.is_connect() { CONNECT } else { within }) };
    }
    let mut cause = error.source();
    let mut kind = None;
    while let Some(error) = cause {
        if let Some(Unresolved(kind)) = error.downcast_ref() {
            return SourceError::Unresolved { host: host(), kind: *kind };
        }
        if let Some(error) = error.downcast_ref::<io::Error>() {
            kind = Some(error.kind());
        }
        cause = error.source();
    }
    SourceError::Unreachable { host: host(), kind: kind.unwrap_or(io::ErrorKind::Other) }
}

/// Whether somebody else has the place of the one who asked at a piping server.
pub(crate) fn is_taken(error: &SourceError) -> bool {
    matches!(error, SourceError::Status { status, .. } if *status == StatusCode::BAD_REQUEST.as_u16())
}

/// How long a connection, and the look-up of its name, may take.
const CONNECT: Duration = Duration::from_secs(3);
/// Connections of one server that are kept without use.
const IDLE: usize = 2;
/// Addresses of one name that are tried.
const ADDRS: usize = 16;
/// Redirects followed in one request.
const REDIRECTS: usize = 3;
/// The longest that a server may tell us to stay away.
const LONGEST_REST: Duration = Duration::from_secs(600);
/// How long an answer of a server may take that does not have to wait for others.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_urls_of_the_web() {
        let server = |text: &str| Server::parse(text).unwrap();
        assert_eq!(server("https://ppng.io").at("a/b", None).as_str(), "https://ppng.io/a/b");
        assert_eq!(
            server("http://x.example:80/base/?q#f").at("a", Some("ttl=5")).as_str(),
            "http://x.example/base/a?ttl=5"
        );
        for (text, host, reach) in [
            ("http://127.0.0.1:8080/", "127.0.0.1:8080", Reach::Host),
            ("http://[::1]/", "[::1]", Reach::Host),
            ("http://localhost", "localhost", Reach::Host),
            ("http://192.168.1.1/x", "192.168.1.1", Reach::Network),
            ("https://9.9.9.9", "9.9.9.9", Reach::World),
            ("https://host.example:1", "host.example:1", Reach::World),
        ] {
            assert_eq!((server(text).host.as_str(), server(text).reach()), (host, reach), "{text}");
        }
        for wrong in [
            "",
            "host.example",
            "ftp://host.example",
            "https://",
            "/x",
            "unix:///x",
            "https://user:secret@host.example",
        ] {
            assert!(Server::parse(wrong).is_none(), "{wrong:?}");
        }
    }
}
