//! Proof that a peer answers at its address, on a wire whose answers carry nothing of the question.
//!
//! A PONG is the same twenty-one bytes whatever was asked, so whoever knows a node's id can forge one from any
//! address. What an off-path forger cannot know is *when* we ask. Each PING leaves after a random delay, one at a
//! time; the answers must come one for each, all after about the same time, and none unasked. Six in a row leave
//! a blind forger about one chance in two hundred per attempt, and every failed attempt makes the next wait twice as
//! long. A sealed packet that opens proves the key at once, and is what peers with something to say send; that they are at
//! the address it names is left to this proof.

use std::time::{Duration, Instant};

use crypto::Rng;

/// Answers in a row that prove the address.
const ROUNDS: u32 = 6;
/// The random delay before each PING is below this, or below six tolerances if that is more.
const SPREAD: Duration = Duration::from_millis(150);
/// How far a round-trip time may stray from the first one, or a quarter of that if it is more.
const TOLERANCE: Duration = Duration::from_millis(25);
/// An answer later than this is none, nor is one after twice what the first took.
const PATIENCE: Duration = Duration::from_secs(1);
/// A PING or its answer may get lost, so often in one attempt.
const MAX_MISSED: u32 = 8;
/// The longest pause after failures.
const MAX_PAUSE: Duration = Duration::from_secs(8);

/// Where the proof of one address stands.
#[derive(Debug)]
pub(super) struct Challenge {
    passed: u32,
    missed: u32,
    first_rtt: Duration,
    asked: Option<Instant>,
    next: Option<Instant>,
    pause: Duration,
}

/// What an answer means.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// It fits; the proof is complete.
    Proved(Duration),
    /// It fits; more are needed.
    Fits,
    /// It was not asked for, or came at the wrong time: the proof starts again.
    Misfit,
}

impl Challenge {
    pub(super) fn new() -> Self {
        Self { passed: 0, missed: 0, first_rtt: Duration::ZERO, asked: None, next: None, pause: SPREAD }
    }

    /// Starts the first round, if none has been.
    pub(super) fn start(&mut self, rng: &mut Rng, now: Instant) {
        if self.asked.is_none() && self.next.is_none() {
            self.next = Some(now + rng.duration_below(SPREAD));
        }
    }

    /// Whether a PING is under way.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// Whether a PING is due.
    pub(super) fn is_due(&self, now: Instant) -> bool {
        self.asked.is_none() && self.next.is_some_and(|next| next <= now)
    }

    /// The PING has left.
    pub(super) fn on_ping(&mut self, now: Instant) {
        self.asked = Some(now);
        self.next = None;
    }

    pub(super) fn on_pong(&mut self, rng: &mut Rng, now: Instant) -> Answer {
        let Some(asked) = self.asked.take() else {
            self.restart(rng, now);
            return Answer::Misfit;
        };
        let rtt = now.saturating_duration_since(asked);
        if self.passed == 0 {
            self.first_rtt = rtt;
        } else if rtt.abs_diff(self.first_rtt) > self.tolerance() {
            self.restart(rng, now);
            return Answer::Misfit;
        }
        self.passed += 1;
        if self.passed >= ROUNDS {
            return Answer::Proved(rtt);
        }
        self.next = Some(now + rng.duration_below(SPREAD.max(self.tolerance() * 6)));
        Answer::Fits
    }

    fn tolerance(&self) -> Duration {
        TOLERANCE.max(self.first_rtt / 4)
    }

    pub(super) fn handle_timeout(&mut self, rng: &mut Rng, now: Instant) {
        if self.asked.is_some_and(|asked| now >= asked + self.patience()) {
            self.asked = None;
            self.missed += 1;
            if self.missed > MAX_MISSED {
                self.restart(rng, now);
            } else {
                self.next = Some(now + rng.duration_below(SPREAD));
            }
        }
    }

    fn patience(&self) -> Duration {
        if self.passed == 0 { PATIENCE } else { PATIENCE.min((self.first_rtt + self.tolerance()) * 2) }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.asked.map(|asked| asked + self.patience()).or(self.next)
    }

    fn restart(&mut self, rng: &mut Rng, now: Instant) {
        self.passed = 0;
        self.missed = 0;
        self.next = Some(now + self.pause / 2 + rng.duration_below(self.pause));
        self.pause = (self.pause * 2).min(MAX_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crypto::Seed;

    fn base() -> Instant {
        static BASE: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        #[expect(clippy::disallowed_methods, reason = "an arbitrary base; only offsets are used")]
        *BASE.get_or_init(Instant::now)
    }

    /// Plays a peer that answers each PING after `rtt`; returns how long the proof took.
    fn honest(seed: u64, rtt: Duration) -> Option<Duration> {
        let (mut rng, mut now) = (Seed::fixed(seed).rng(), base());
        let mut challenge = Challenge::new();
        challenge.start(&mut rng, now);
        for _ in 0..32 {
            now = challenge.deadline()?;
            challenge.handle_timeout(&mut rng, now);
            if challenge.is_due(now) {
                challenge.on_ping(now);
                now += rtt;
                if let Answer::Proved(_) = challenge.on_pong(&mut rng, now) {
                    return Some(now - base());
                }
            }
        }
        None
    }

    #[test]
    fn an_honest_peer_is_proved_after_about_a_second() {
        for seed in 0..100 {
            let took = honest(seed, Duration::from_millis(40)).expect("proved");
            assert!(took < Duration::from_millis(1150), "{took:?}");
        }
    }

    /// A forger who does not see the PINGs answers at every multiple of `step` (and can do so for ever).
    fn forged(seed: u64, step: Duration) -> bool {
        let (mut rng, mut now) = (Seed::fixed(seed).rng(), base());
        let mut challenge = Challenge::new();
        challenge.start(&mut rng, now);
        let mut next_forgery = now + step;
        while now < base() + Duration::from_secs(30) {
            let due = challenge.deadline().unwrap_or(next_forgery);
            now = due.min(next_forgery);
            challenge.handle_timeout(&mut rng, now);
            if challenge.is_due(now) {
                challenge.on_ping(now);
            }
            if now == next_forgery {
                next_forgery += step;
                if let Answer::Proved(_) = challenge.on_pong(&mut rng, now) {
                    return true;
                }
            }
        }
        false
    }

    #[test]
    fn a_blind_forger_hardly_ever_passes_in_half_a_minute() {
        for step in [5, 20, 60, 120, 200, 400, 700, 1000] {
            let passed = (0..500).filter(|&seed| forged(seed, Duration::from_millis(step))).count();
            assert!(passed <= 25, "{passed} of 500 at a PONG each {step} ms");
        }
    }
}
