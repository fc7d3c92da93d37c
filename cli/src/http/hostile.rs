//! Requests as somebody hostile may write them, through all of the server but its sockets: whatever comes, it answers with a status
//! that says what is wrong or ends the connection, in bounded time, and holds nothing of it afterwards.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::listener::serve;
use super::{Site, limits};

/// Numbers of which the same come again (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.roll() >> 33).unwrap() % n
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// Mostly what is right.
    fn mostly<T: Copy>(&mut self, right: T, wrong: &[T]) -> T {
        if self.below(5) == 0 { self.pick(wrong) } else { right }
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        (0..self.below(most + 1)).map(|_| self.roll().to_le_bytes()[0]).collect()
    }

    fn digits(&mut self, len: usize) -> String {
        let most = self.mostly(b'f', b"g/F");
        (0..len).map(|_| char::from(self.pick(&[b'0', b'9', b'a', most]))).collect()
    }

    fn target(&mut self) -> String {
        let (key, slot) = (self.mostly(64, &[63, 66, 0]), self.mostly(32, &[31, 0]));
        let (key, slot) = (self.digits(key), self.digits(slot));
        let path = match self.below(10) {
            0 => "/announce".to_owned(),
            1 => "/peers".to_owned(),
            2 => format!("/sealed/{key}"),
            3 | 4 => format!("/sealed/{key}/{slot}"),
            5 | 6 => format!("/meet{}", self.below(2)),
            7 => format!("/{}", "x".repeat(self.pick(&[254, 255, 256, 20_000]))),
            8 => self.pick(&["/", "", "*", "//", "/..", "http://other/peers", "/%00", "/healthz"]).to_owned(),
            _ => String::from_utf8_lossy(&self.bytes(20)).into_owned(),
        };
        let query = self.pick(&["", "", "?ttl=7", "?ttl=-1", "?ttl=99999999999999999999", "?n=2", "?n=1&n=", "?&&="]);
        path + query
    }

    fn header(&mut self) -> String {
        let name = self.pick(&[
            "Host",
            "Content-Type",
            "X-Forwarded-For",
            "x-piping",
            "Expect",
            "Connection",
            "Upgrade",
            "Origin",
            "Content-Disposition",
        ]);
        let value = self.pick(&[
            "x",
            "",
            "1.2.3.4",
            "::1, [2001:db8::1]:7",
            "10.0.0.1,,",
            "100-continue",
            "close",
            "keep-alive, upgrade",
            "h2c",
            "websocket",
            "\u{fffd}\t;",
        ]);
        format!("{name}: {value}\r\n")
    }

    fn body(&mut self) -> (String, Vec<u8>) {
        let body = match self.below(6) {
            0 => Vec::new(),
            1 => br#"{"id":"e3f03f52612aadacbcbc96c9ea08aa1835740dd7","ip":"203.0.113.7","port":7}"#.to_vec(),
            2 => format!(r#"{{"id":"{}","ip":{},"port":{}}}"#, "a".repeat(20), self.below(9), self.roll()).into_bytes(),
            3 => vec![b'['; self.pick(&[100, 4096, 4097])],
            4 => vec![7; self.pick(&[2048, 2049, 70_000, (1 << 20) + 1])],
            _ => self.bytes(300),
        };
        match self.below(6) {
            0 => (String::new(), body),
            1..=3 => (format!("Content-Length: {}\r\n", body.len()), body),
            4 => {
                let wrong = self.pick(&[
                    "0",
                    "1",
                    "00",
                    "1048577",
                    "-1",
                    "+5",
                    "18446744073709551615",
                    "9999999999999999999999",
                    "5, 5",
                ]);
                let twice = self.pick(&["", "Transfer-Encoding: chunked\r\n", "Content-Length: 3\r\n"]);
                (format!("Content-Length: {wrong}\r\n{twice}"), body)
            }
            _ => {
                let size = self.mostly("", &["0", "ffffffffffffffff", ";x=y"]);
                let mut chunked = format!("{:x}{size}\r\n", body.len()).into_bytes();
                chunked.extend(&body);
                chunked.extend(self.pick(&[&b"\r\n0\r\n\r\n"[..], b"\r\n0\r\nx: y\r\n\r\n", b"\r\n", b""]));
                let coding = self.mostly("chunked", &["gzip, chunked", "chunked, gzip", "gzip"]);
                (format!("Transfer-Encoding: {coding}\r\n"), chunked)
            }
        }
    }

    fn request(&mut self) -> Vec<u8> {
        let method = self.pick(&["GET", "GET", "POST", "PUT", "PUT", "DELETE"]);
        let method = self.mostly(method, &["HEAD", "CONNECT", "OPTIONS", "PRI", "gEt", ""]);
        let version = self.mostly("HTTP/1.1", &["HTTP/1.0", "HTTP/2.0", ""]);
        let (length, body) = self.body();
        let headers: String = (0..self.mostly(1, &[0, 2, 63, 65])).map(|_| self.header()).collect();
        let mut request = format!("{method} {} {version}\r\n{headers}{length}\r\n", self.target()).into_bytes();
        request.extend(body);
        if self.below(4) == 0 {
            for _ in 0..=self.below(3) {
                let (at, byte) = (self.below(request.len().min(400)), self.roll().to_le_bytes()[0]);
                request[at] = byte;
            }
        }
        if self.below(6) == 0 {
            request.truncate(self.below(request.len()));
        }
        request
    }
}

/// Says what there is to say, in parts, and returns what is answered.
async fn ask(site: Arc<Site>, from: IpAddr, mut dice: Dice, ending: watch::Receiver<bool>) -> Vec<u8> {
    let (ours, theirs) = tokio::io::duplex(dice.pick(&[64, 4096, 1 << 16]));
    let server = tokio::spawn(serve(site, theirs, from, ending));
    let (mut reading, mut writing) = tokio::io::split(ours);
    let request = dice.request();
    let end = dice.below(3);
    let write = async move {
        for part in request.chunks(dice.pick(&[1, 1000, 1 << 20])) {
            if writing.write_all(part).await.is_err() {
                return;
            }
            if dice.below(50) == 0 {
                sleep(Duration::from_secs(dice.below(4) as u64)).await;
            }
        }
        match end {
            0 => drop(writing.shutdown().await),
            // Says nothing more, and stays.
            1 => std::future::pending().await,
            _ => {}
        }
    };
    let mut answer = Vec::new();
    let read = async {
        // It may be broken off.
        let _ = reading.read_to_end(&mut answer).await;
    };
    // Some go away whatever is to come.
    let patience = if end == 2 { Duration::from_secs(20) } else { Duration::from_secs(3600) };
    let _ = timeout(patience, async {
        tokio::select! {
            () = read => {}
            () = async { write.await; std::future::pending::<()>().await } => {}
        }
    })
    .await;
    drop(reading);
    server.await.expect("no request makes it panic");
    answer
}

/// All that there is to be said.
const STATUSES: [&str; 14] =
    ["200", "204", "400", "403", "404", "405", "408", "413", "414", "429", "431", "501", "503", "505"];

#[tokio::test(start_paused = true)]
async fn whatever_is_asked_is_answered_or_ended_and_nothing_stays() {
    let (_told, ending) = watch::channel(false);
    // A head, the wait for a receiver, the transfer, and a moment to be told of it.
    let longest = limits::HEAD + limits::PIPE_WAIT + limits::PIPE_TRANSFER + limits::HEAD;
    let mut statuses = BTreeMap::<String, usize>::new();
    for round in 0..800_u64 {
        let site = Arc::new(Site::new(round % 8 != 0, round % 7 != 0, round % 4 == 0));
        // It would be printed.
        site.unexpected.call_once(|| {});
        let (mut asking, begun) = (JoinSet::new(), Instant::now());
        for number in 0..8 {
            let mut dice = Dice(round * 8 + number);
            let from: IpAddr = dice.pick(&["127.0.0.1", "10.0.0.1", "203.0.113.7", "2001:db8::1"]).parse().unwrap();
            asking.spawn(ask(Arc::clone(&site), from, dice, ending.clone()));
        }
        while let Some(answer) = asking.join_next().await {
            let answer = answer.expect("no panic");
            if answer.is_empty() {
                *statuses.entry("none".to_owned()).or_default() += 1;
                continue;
            }
            let status = answer.get(9..12).and_then(|status| std::str::from_utf8(status).ok()).unwrap_or_default();
            assert!(
                answer.starts_with(b"HTTP/1.") && STATUSES.contains(&status),
                "round {round}: {:?}",
                String::from_utf8_lossy(&answer)
            );
            *statuses.entry(status.to_owned()).or_default() += 1;
        }
        assert!(begun.elapsed() <= longest, "round {round}: {:?}", begun.elapsed());
        assert!(site.piping.as_ref().is_none_or(super::Piping::is_empty), "round {round}: somebody still waits");
    }
    // The generator gets everywhere.
    for status in ["200", "204", "400", "403", "404", "405", "408", "413", "431", "none"] {
        assert!(statuses.get(status).is_some_and(|count| *count > 5), "{statuses:?}");
    }
}
