//! How the client asks the server what it counted and used, beside the library that is measured.
//!
//! A TCP connection: one byte of question, five numbers of 8 bytes as the answer. The server answers in a thread that
//! sleeps otherwise, so nothing of it runs while time is measured.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::machine::Usage;
use crate::tally::Tally;

const NUMBERS: usize = 5;
const USAGE: u8 = b'u';
const COUNTS: u8 = b'c';
const FINISH: u8 = b'f';
const REACHED: u8 = b'r';

/// How often the thread looks for a count that is waited for. Only before time is measured.
const LOOK: Duration = Duration::from_millis(1);

/// Answers questions about this process in a thread.
///
/// # Errors
/// When it cannot listen.
pub fn serve(bind: IpAddr, tally: Arc<Tally>) -> Result<SocketAddr> {
    let listener = TcpListener::bind((bind, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let tally = Arc::clone(&tally);
            thread::spawn(move || answer(stream, &tally));
        }
    });
    Ok(address)
}

/// Answers until the client goes away.
fn answer(mut stream: TcpStream, tally: &Tally) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut question = [0; 9];
    loop {
        stream.read_exact(&mut question)?;
        let [kind, argument @ ..] = question;
        let numbers: [u64; NUMBERS] = match kind {
            USAGE => {
                let usage = Usage::now()?;
                [usage.cpu, usage.resident, usage.interrupted, 0, 0]
            }
            FINISH => {
                let finish = tally.wait();
                let (right, wrong) = tally.counts();
                [right, wrong, finish.at, finish.cpu, 0]
            }
            REACHED => {
                while tally.counts().0 < u64::from_le_bytes(argument) {
                    thread::sleep(LOOK);
                }
                [0; NUMBERS]
            }
            _ => {
                let (right, wrong) = tally.counts();
                [right, wrong, 0, 0, 0]
            }
        };
        stream.write_all(&numbers.map(u64::to_le_bytes).concat())?;
    }
}

/// The client's end.
#[derive(Debug)]
pub struct Control(tokio::net::TcpStream);

/// What the server had when the work was finished.
#[derive(Clone, Copy, Debug)]
pub struct Verdict {
    /// What was as it should be.
    pub right: u64,
    /// What was not.
    pub wrong: u64,
    /// When the last came, by [`crate::machine::monotonic`].
    pub at: u64,
    /// CPU time then.
    pub cpu: u64,
}

impl Control {
    /// Connects.
    ///
    /// # Errors
    /// When nobody is there.
    pub async fn connect(address: SocketAddr) -> Result<Self> {
        let stream = tokio::net::TcpStream::connect(address).await.context("cannot reach the server's control port")?;
        stream.set_nodelay(true)?;
        Ok(Self(stream))
    }

    async fn ask(&mut self, kind: u8, argument: u64) -> Result<[u64; NUMBERS]> {
        let mut question = [kind; 9];
        question[1..].copy_from_slice(&argument.to_le_bytes());
        self.0.write_all(&question).await?;
        let mut numbers = [0; NUMBERS];
        for number in &mut numbers {
            *number = self.0.read_u64_le().await.context("the server ended")?;
        }
        Ok(numbers)
    }

    /// What the server has used so far.
    ///
    /// # Errors
    /// When the server ended.
    pub async fn usage(&mut self) -> Result<Usage> {
        let [cpu, resident, interrupted, ..] = self.ask(USAGE, 0).await?;
        Ok(Usage { cpu, resident, interrupted })
    }

    /// What the server has counted so far: right, wrong.
    ///
    /// # Errors
    /// When the server ended.
    pub async fn counts(&mut self) -> Result<(u64, u64)> {
        let [right, wrong, ..] = self.ask(COUNTS, 0).await?;
        Ok((right, wrong))
    }

    /// Waits until the server has counted this many that were right.
    ///
    /// # Errors
    /// When the server ended.
    pub async fn reached(&mut self, count: u64) -> Result<()> {
        self.ask(REACHED, count).await.map(drop)
    }

    /// Waits for the end of the work.
    ///
    /// # Errors
    /// When the server ended.
    pub async fn verdict(&mut self) -> Result<Verdict> {
        let [right, wrong, at, cpu, _] = self.ask(FINISH, 0).await?;
        Ok(Verdict { right, wrong, at, cpu })
    }
}
