//! How the program ends.

use std::process::ExitCode;

/// What `--help` says of it.
pub(crate) const HELP: &str = "exit status: 0 ok, 1 failed, 2 wrong usage, 3 nobody found or reached, 4 refused, 5 timed out, \
    78 wrong configuration, 130 interrupted";

/// An end that is no success. Its text says what to try next.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    /// None if there is nothing to be said that was not.
    pub(crate) error: Option<anyhow::Error>,
}

impl Failure {
    /// Nobody was found or reached.
    pub(crate) const UNREACHED: u8 = 3;
    /// The other side refused.
    pub(crate) const REFUSED: u8 = 4;
    /// Something took too long.
    pub(crate) const TIMED_OUT: u8 = 5;
    /// The configuration is wrong (EX_CONFIG of sysexits.h).
    pub(crate) const CONFIG: u8 = 78;
    /// Ended by Ctrl-C: 128 and the number of the signal.
    pub(crate) const INTERRUPTED: u8 = 130;

    pub(crate) fn new(code: u8, error: impl Into<anyhow::Error>) -> Self {
        Self { code, error: Some(error.into()) }
    }

    /// An end of which everything has been said.
    pub(crate) const fn silent(code: u8) -> Self {
        Self { code, error: None }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(1, error)
    }
}

impl From<&Failure> for ExitCode {
    fn from(failure: &Failure) -> Self {
        Self::from(failure.code)
    }
}
