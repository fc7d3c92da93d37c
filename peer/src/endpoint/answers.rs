//! Answers that leave no state behind: COOKIE, RETRY, repeated answers, resets.
//!
//! The invariant: each answer is no longer than the datagram it answers, so the queue never lets a stranger have more
//! bytes than it sent. When it is full the newest answer is dropped: its sender repeats the question.

use std::collections::VecDeque;

use structs::{Ecn, Path, Rejected, Transmit, TransmitBuf};

use super::limits;

/// A bounded queue of answers.
#[derive(Debug, Default)]
pub(super) struct Answers {
    queue: VecDeque<(Path, Box<[u8]>)>,
    bytes: usize,
}

impl Answers {
    /// Queues the answer to a datagram of `received` bytes.
    ///
    /// # Errors
    ///
    /// [`Rejected::LimitReached`] if too many wait; [`Rejected::Unproven`] for an answer that would be longer than
    /// what it answers.
    pub(super) fn push(&mut self, path: Path, answer: &[u8], received: usize) -> Result<(), Rejected> {
        if answer.len() > received || answer.len() > limits::ANSWER_LEN {
            debug_assert!(false, "an answer of {} bytes to {received}", answer.len());
            return Err(Rejected::Unproven);
        }
        if self.queue.len() >= limits::ANSWERS {
            return Err(Rejected::LimitReached);
        }
        self.bytes += answer.len();
        self.queue.push_back((path, answer.into()));
        Ok(())
    }

    /// Writes the next ones that go the same way and make a batch.
    pub(super) fn poll(&mut self, out: &mut TransmitBuf) -> Option<Transmit> {
        let path = self.queue.front()?.0;
        while let Some((_, answer)) = self.queue.front().filter(|(to, _)| *to == path)
            && out.push(answer)
        {
            self.bytes -= answer.len();
            self.queue.pop_front();
        }
        let transmit = out.finish(path, Ecn::NotEct);
        if transmit.is_none() {
            // A buffer that takes nothing: whoever polls forgot to clear it, and must not find an endless queue.
            self.clear();
        }
        transmit
    }

    /// Forgets them all.
    pub(super) fn clear(&mut self) {
        self.queue = VecDeque::new();
        self.bytes = 0;
    }

    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(port: u16) -> Path {
        Path::udp(([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], port).into())
    }

    #[test]
    fn they_leave_in_order_and_batched_by_path() {
        let mut answers = Answers::default();
        for (port, len) in [(2, 12), (2, 12), (3, 68), (2, 132)] {
            answers.push(to(port), &vec![7; len], 180).expect("room");
        }
        assert_eq!(answers.bytes(), 224);
        let mut out = TransmitBuf::new(16);
        let mut left = Vec::new();
        while let Some(transmit) = answers.poll(&mut out) {
            left.push((transmit.path.remote.port(), transmit.segment_size, transmit.len));
            out.clear();
        }
        assert_eq!(left, [(2, 12, 24), (3, 68, 68), (2, 132, 132)]);
        assert_eq!(answers.bytes(), 0);
    }

    #[test]
    fn a_full_queue_drops_the_newest() {
        let mut answers = Answers::default();
        for _ in 0..limits::ANSWERS {
            answers.push(to(2), &[1; 68], 180).expect("room");
        }
        assert_eq!(answers.push(to(3), &[1; 68], 180), Err(Rejected::LimitReached));
        assert_eq!(answers.bytes(), limits::ANSWERS * 68);
        answers.clear();
        assert_eq!(answers.push(to(3), &[1; 68], 180), Ok(()));
    }

    #[test]
    #[cfg_attr(debug_assertions, should_panic(expected = "an answer of 13 bytes to 12"))]
    fn no_answer_is_longer_than_what_it_answers() {
        let mut answers = Answers::default();
        assert_eq!(answers.push(to(2), &[0; 13], 12), Err(Rejected::Unproven));
    }
}
