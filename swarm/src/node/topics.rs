//! Topics: membership proved inside of sessions, and messages for all of the neighbours.
