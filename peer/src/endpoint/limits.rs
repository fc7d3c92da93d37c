//! Every bound of what an endpoint holds for strangers, and what becomes of what exceeds it (SPEC 9.1 to 9.8).

use std::time::Duration;

use framing::limits::{RESP_LEN, XX2_LEN};

use super::half_open::ENTRY_BYTES;

/// Handshakes that wait for the first packet of the other side. When so many do, the newcomer is refused.
pub(super) const HALF_OPEN: usize = 4096;
/// The same for one IPv4 address or one IPv6 /64, and for one /24 or /48; the newcomer is refused.
pub(super) const HALF_OPEN_PER_ADDRESS: u32 = 64;
pub(super) const HALF_OPEN_PER_SUBNET: u32 = 256;
/// Of those, how many may be of somebody who has not said who it is: what is kept for them is larger.
pub(super) const STRANGERS_HALF_OPEN: usize = 512;
/// How many third messages with a right MAC and a wrong content end such a handshake: each costs key agreements.
pub(super) const STRANGER_FAILURES: u8 = 4;
/// How long each may wait: five repetitions of a first message that gets lost.
pub(super) const HALF_OPEN_LIFE: Duration = Duration::from_secs(5);
/// From so many on, strangers have to prove their address.
pub(super) const RAISED_AT: usize = HALF_OPEN / 4;
/// For how long they have to, once the level was raised.
pub(super) const RAISED_FOR: Duration = Duration::from_secs(1);
/// Those who do not know our key have to prove their address from so many on, whatever the level is: anybody can write
/// such a message.
pub(super) const IDLE_BELOW: usize = 64;
/// Unproven messages of those who do not know our key that are answered, per second and at once.
pub(super) const STRANGERS: (u32, u32) = (32, 32);
/// At the raised level, handshakes that a proven address gets, per second and at once; then its network.
pub(super) const PER_ADDRESS: (u32, u32) = (20, 5);
pub(super) const PER_SUBNET: (u32, u32) = (100, 50);
/// For how many addresses and networks that is remembered; the one not seen for longest is forgotten.
pub(super) const ADDRESSES: usize = 4096;
pub(super) const SUBNETS: usize = 1024;

/// Sessions that others opened, for one address and for one network: homes and offices, carriers' translators.
pub(super) const SESSIONS_PER_ADDRESS: u32 = 64;
pub(super) const SESSIONS_PER_SUBNET: u32 = 128;

/// For how long a dial of ours waits for that of the other side, counted from each message of that one.
pub(super) const YIELD: Duration = Duration::from_secs(2);
/// And in all: as long as the other side's handshake may take.
pub(super) const YIELD_IN_ALL: Duration = HALF_OPEN_LIFE;

/// First messages that are recognised when they come again after they were confirmed; the oldest is forgotten.
pub(super) const RECENT: usize = 1024;
/// Keys of which is remembered when their last confirmed handshake began; the one not used for longest is forgotten.
pub(super) const CONFIRMED: usize = 4096;
/// Peers whose key need not be agreed with anew when they come again; the one that came first is forgotten.
pub(super) const ACQUAINTANCES: usize = 512;
/// A first message that is seen so much later than the open session began may have been overtaken, and belong to a dial that
/// crossed; of one that is seen later still the sender has lost the open session.
pub(super) const CROSSING: Duration = Duration::from_millis(500);

/// New sessions that hold several KiB more than they need when nothing happens. Of more, those that were quiet for a moment give
/// them back; nothing is refused to any.
pub(super) const YOUNG: usize = 32;

/// How often a session does so: between the handshake and the first request, after that, and when it was told the last of what
/// everybody is told at first.
pub(super) const LISTINGS: u8 = 4;

/// Answers to strangers that wait to leave; the newest is dropped, for its sender repeats the question.
pub(super) const ANSWERS: usize = 256;
/// The longest of them.
pub(super) const ANSWER_LEN: usize = XX2_LEN;

/// Resets, per second and at once: in all, and to one address.
pub(super) const RESETS: (u32, u32) = (100, 100);
pub(super) const RESETS_PER_ADDRESS: (u32, u32) = (1, 1);
/// For how many addresses that is remembered. No address can be forgotten within its second: there are not so many
/// resets.
pub(super) const RESET_ADDRESSES: usize = 256;

/// Peers whose tickets are kept, in each direction; those of the peer not heard of for longest go.
pub(super) const TICKET_PEERS: usize = 1024;
/// Tickets of one peer; the oldest goes.
pub(super) const TICKETS_PER_PEER: usize = 4;

/// What a peer may send before all others have had their turn, in bytes: a quarter of the largest batch, so that four
/// visits at most pass between two batches of one peer that is alone.
pub(super) const QUANTUM: i64 = 16 << 10;

/// What a handshake that waits for XX3 takes beside its entry, in bytes: 1793 were counted.
const PENDING_BYTES: usize = 2048;

/// What strangers can make an endpoint hold, in bytes, hash tables at their emptiest (7/16 full) included.
pub(super) const MAX_BYTES: usize = HALF_OPEN * ENTRY_BYTES
    + STRANGERS_HALF_OPEN * PENDING_BYTES
    + ANSWERS * (ANSWER_LEN + 128)
    + 3 * (RECENT * 96 + ADDRESSES * 128 + SUBNETS * 128 + RESET_ADDRESSES * 128 + CONFIRMED * 96)
    + 3 * ACQUAINTANCES * 192
    + 2 * TICKET_PEERS * (TICKETS_PER_PEER * 160 + 128);

const _: () = assert!(RESP_LEN <= ANSWER_LEN, "what is kept to be repeated is an answer");
const _: () = assert!(RESETS.0 + RESETS.1 < RESET_ADDRESSES as u32, "an address is remembered for its second");
const _: () = assert!(HALF_OPEN * ENTRY_BYTES <= 5 << 20, "half-open handshakes");
const _: () = assert!(MAX_BYTES <= 10 << 20, "everything that strangers can fill");
