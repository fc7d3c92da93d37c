//! One peer: by which way it is reached, and what keeps it from being reached.

use serde_json::{Value, json};
use swarm::nat::Way;
use swarm::{DialError, PeerInfo, Swarm};

use crate::exit::Failure;

/// The exit status of a dial that failed.
pub(crate) const fn status(error: &DialError) -> u8 {
    match error {
        DialError::Refused { .. } | DialError::WrongPeer { .. } | DialError::NoCommonVersion { .. } => Failure::REFUSED,
        DialError::NoAnswer { .. }
        | DialError::Unrelayed { .. }
        | DialError::NotFound { .. }
        | DialError::NoAddress
        | DialError::Unresolved { .. } => Failure::UNREACHED,
        _ => 1,
    }
}

/// What the sources say, in brackets; nothing without any.
pub(crate) fn sources(swarm: &Swarm) -> String {
    let report = swarm.discovery();
    report.iter().next().map_or_else(String::new, |_| format!(" ({report})"))
}

/// Whether the way to it is about to change.
pub(crate) const fn is_trying(info: &PeerInfo) -> bool {
    matches!(info.path, Way::Relayed { why: swarm::nat::Why::Trying, .. })
}

/// The way as fields: `path` in one word, `relay` and `why` if it is relayed.
pub(crate) fn fields(way: Option<Way>) -> Value {
    let path = way.map(|way| match way {
        Way::Direct => "direct",
        Way::Punched => "punched",
        Way::Relayed { .. } => "relayed",
        _ => "other",
    });
    let (relay, why) = match way {
        Some(Way::Relayed { relay, why }) => (Some(relay.to_string()), Some(why.to_string())),
        _ => (None, None),
    };
    json!({"path": path, "relay": relay, "why": why})
}

/// The fields of both objects.
pub(crate) fn and(mut one: Value, other: Value) -> Value {
    if let (Value::Object(one), Value::Object(other)) = (&mut one, other) {
        one.extend(other);
    }
    one
}
