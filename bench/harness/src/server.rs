//! The server's side of every work.

use std::sync::Arc;

use anyhow::{Result, ensure};

use crate::client::{REQUEST, WARM_BYTES};
use crate::library::{Connection, Library, MessageReceiver as _, ReceiveStream, SendStream};
use crate::stamps::{self, Checker};
use crate::tally::Tally;
use crate::work::Work;

/// Bytes of the buffer for libraries that only copy.
const READ: usize = 64 * 1024;

/// What the server says when the part that is not measured has come.
pub(crate) const WARM: u8 = b'w';

/// Accepts connections for as long as the process lives.
///
/// # Errors
/// When the listener fails.
pub async fn serve<L: Library>(listener: L::Listener, work: Work, tally: Arc<Tally>) -> Result<()> {
    loop {
        let incoming = L::accept(&listener).await?;
        let tally = Arc::clone(&tally);
        tokio::spawn(async move {
            match L::establish(incoming).await {
                Ok(connection) => converse(connection, work, tally),
                Err(error) => complain(work, &error),
            }
        });
    }
}

/// Clients that measure connections end them without ceremony; all others say what is wrong by waiting.
fn complain(work: Work, error: &anyhow::Error) {
    if !matches!(work, Work::Connects { .. }) {
        eprintln!("{work}: {error:#}");
    }
}

/// Begins what is to be done with one connection. A task of its own for each work: a thousand idle connections should hold
/// what that work needs, not what the largest of them does.
fn converse<C: Connection>(connection: C, work: Work, tally: Arc<Tally>) {
    match work {
        Work::Bulk(_) => begin(work, bulk(connection, tally)),
        Work::Goodput => begin(work, goodput(connection, tally)),
        Work::Messages { size, .. } => begin(work, messages(connection, size, tally)),
        Work::PingPong => begin(work, ping_pong(connection, tally)),
        Work::Datagrams => begin(work, datagrams(connection, tally)),
        // Without anything around it: what is around a future may be as large as that again.
        Work::Requests(_) | Work::Connects { .. } | Work::Idle => drop(tokio::spawn(requests(connection, work, tally))),
    }
}

fn begin(work: Work, conversation: impl Future<Output = Result<()>> + Send + 'static) {
    tokio::spawn(async move {
        if let Err(error) = conversation.await {
            complain(work, &error);
        }
    });
}

async fn bulk(connection: impl Connection, tally: Arc<Tally>) -> Result<()> {
    if let Some((send, receive)) = connection.accept().await? {
        swallow(send, receive, &tally).await?;
        ended(&connection).await;
    }
    Ok(())
}

async fn goodput(connection: impl Connection, tally: Arc<Tally>) -> Result<()> {
    let Some((_send, mut receive)) = connection.accept().await? else { return Ok(()) };
    let mut checker = Checker::new(0);
    let mut buffer = vec![0; READ];
    let (mut seen, mut wrong) = (0, 0);
    while receive.drain(&mut buffer, |bytes| checker.take(bytes)).await? {
        tally.add(checker.offset - seen, checker.wrong - wrong);
        (seen, wrong) = (checker.offset, checker.wrong);
    }
    Ok(())
}

async fn messages(connection: impl Connection, size: usize, tally: Arc<Tally>) -> Result<()> {
    let mut messages = connection.accept_messages().await?;
    let (mut next, mut done) = (0, false);
    while !done {
        let (mut right, mut wrong) = (0, 0);
        let more = messages
            .receive(|message| {
                let number = stamps::number_of(message);
                if number == stamps::END {
                    done = true;
                } else if number == next && message.len() == size {
                    right += 1;
                } else {
                    wrong += 1;
                }
                next = number.wrapping_add(1);
            })
            .await?;
        tally.add(right, wrong);
        ensure!(done || more, "the messages ended without their end");
    }
    tally.finish();
    ended(&connection).await;
    Ok(())
}

async fn ping_pong(connection: impl Connection, tally: Arc<Tally>) -> Result<()> {
    let Some((mut send, mut receive)) = connection.accept().await? else { return Ok(()) };
    let mut request = [0; REQUEST];
    while matches!(receive.read_full(&mut request).await, Ok(REQUEST)) {
        send.write_all(&reply(&request)).await?;
        tally.add(1, 0);
    }
    Ok(())
}

async fn datagrams(connection: impl Connection, tally: Arc<Tally>) -> Result<()> {
    let (mut seen, mut open) = (Seen::default(), true);
    while open {
        let (mut right, mut wrong) = (0, 0);
        open = connection
            .receive_datagrams(|datagram| {
                let fresh = seen.insert(stamps::number_of(datagram));
                let as_sent = fresh && datagram.len() == crate::client::DATAGRAM;
                right += u64::from(as_sent);
                wrong += u64::from(!as_sent);
            })
            .await?;
        tally.add(right, wrong);
    }
    Ok(())
}

/// Each request is a stream of its own, and has a task of its own.
async fn requests(connection: impl Connection, work: Work, tally: Arc<Tally>) {
    loop {
        let (send, receive) = match connection.accept().await {
            Ok(Some(halves)) => halves,
            Ok(None) => return,
            Err(error) => return complain(work, &error),
        };
        let tally = Arc::clone(&tally);
        tokio::spawn(async move {
            match answer(send, receive).await {
                Ok(()) => tally.add(1, 0),
                Err(_) => tally.add(0, 1),
            }
        });
    }
}

/// Keeps the connection until the client has ended it.
async fn ended(connection: &impl Connection) {
    while let Ok(Some(_)) = connection.accept().await {}
}

/// Takes in all of a stream.
async fn swallow(mut send: impl SendStream, mut receive: impl ReceiveStream, tally: &Tally) -> Result<()> {
    let mut checker = Checker::new(WARM_BYTES);
    let mut buffer = vec![0; READ];
    let mut warm = false;
    while receive.drain(&mut buffer, |bytes| checker.take(bytes)).await? {
        if !warm && checker.offset >= WARM_BYTES {
            warm = true;
            send.write_all(&[WARM]).await?;
        }
    }
    tally.add(checker.offset, checker.wrong);
    tally.finish();
    Ok(())
}

/// Answers a request that is a stream of its own.
async fn answer(mut send: impl SendStream, mut receive: impl ReceiveStream) -> Result<()> {
    // One more than there should be, to see the end.
    let mut request = [0; REQUEST + 1];
    let length = receive.read_full(&mut request).await?;
    let request = request.first_chunk().filter(|_| length == REQUEST);
    let request: &[u8; REQUEST] = request.ok_or_else(|| anyhow::anyhow!("a request of {length} bytes"))?;
    send.write_all(&reply(request)).await?;
    send.finish().await
}

/// What a request is answered with: all of its bits the other way round, so that no echo passes for an answer.
#[must_use]
pub fn reply(request: &[u8; REQUEST]) -> [u8; REQUEST] {
    request.map(|byte| !byte)
}

/// The numbers of the datagrams that came.
#[derive(Debug, Default)]
struct Seen(Vec<u64>);

impl Seen {
    /// Numbers above are not believed: they would cost memory.
    const LIMIT: u64 = 1 << 32;

    /// False for a number that was there before.
    fn insert(&mut self, number: u64) -> bool {
        if number >= Self::LIMIT {
            return false;
        }
        let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let fresh = self.0[word] & bit == 0;
        self.0[word] |= bit;
        fresh
    }
}
