//! Beacons on the local network: who is there for a topic, without telling others which.
