use sim::conformance::{
    Law, Violation, anti_amplifying, bounded, check_all, lenient, monotonic, progress, pure, quiet, terminal,
};

use crate::toy::{Flaw, Toys};

#[test]
fn a_sound_machine_keeps_every_law() {
    check_all(&Toys(Flaw::None), 0..16).unwrap_or_else(|violation| panic!("{violation}"));
}

/// The law finds the flaw with every one of these seeds, and names itself and the seed.
#[track_caller]
fn caught(flaw: Flaw, law: Law, check: fn(&Toys, u64) -> Result<(), Violation>, says: &str) {
    for seed in 0..8 {
        let violation = check(&Toys(flaw), seed).expect_err("the flaw goes unseen");
        assert_eq!((violation.law, violation.seed), (law, seed));
        assert!(violation.to_string().contains(says), "{violation}");
    }
    assert!(check_all(&Toys(flaw), [0]).is_err());
}

#[test]
fn hidden_state_is_not_pure() {
    caught(Flaw::Impure, Law::Pure, pure, "Datagram of");
}

#[test]
fn an_older_time_that_shows_is_not_monotonic() {
    caught(Flaw::Backward, Law::Monotonic, monotonic, "equal outputs");
}

#[test]
fn acting_on_an_early_timeout_is_not_lenient() {
    caught(Flaw::Hasty, Law::Lenient, lenient, "equal outputs");
}

#[test]
fn a_timer_that_stays_armed_is_no_progress() {
    caught(Flaw::Stuck, Law::Progress, progress, "still wants \"retransmit\"");
}

#[test]
fn a_queue_without_end_is_not_bounded() {
    caught(Flaw::Hoarding, Law::Bounded, bounded, "of at most 4096");
}

#[test]
fn a_trusted_length_is_not_quiet() {
    caught(Flaw::Fragile, Law::Quiet, quiet, "panicked: index out of bounds");
}

#[test]
fn long_and_repeated_answers_amplify() {
    caught(Flaw::Amplifying, Law::AntiAmplifying, anti_amplifying, "bytes and was sent");
    caught(Flaw::Repeating, Law::AntiAmplifying, anti_amplifying, "bytes and was sent");
}

#[test]
fn a_timer_a_taken_command_and_no_end_are_not_terminal() {
    caught(Flaw::Lingering, Law::Terminal, terminal, "wants \"retransmit\"");
    caught(Flaw::Polite, Law::Terminal, terminal, "replied Done");
    caught(Flaw::Immortal, Law::Terminal, terminal, "not closed 300s later");
}
