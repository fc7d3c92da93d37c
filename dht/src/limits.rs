//! Every bound of this crate, and every number that nodes must agree on.

use std::time::Duration;

/// Contacts in a bucket, nodes in an answer, and nodes that store a value (SPEC 11.1).
pub const K: usize = 20;

/// Contacts that wait for a place in one bucket. Above it the one heard longest ago goes.
pub const MAX_SPARES: usize = 10;

/// Contacts of one subnet in a bucket, those that wait included.
pub const MAX_SUBNET_IN_BUCKET: usize = 2;

/// Contacts of one subnet in a table, those that wait included.
pub const MAX_SUBNET_IN_TABLE: usize = 10;

/// How long after its last answer a contact is asked whether it is still there. What others do with the table, and lookups
/// of our own, put it off. With 200 contacts it is one datagram in 4 s at most.
pub const CHECK_INTERVAL: Duration = Duration::from_mins(15);

/// How soon a contact is asked again after it did not answer; doubled with every time, up to [`CHECK_INTERVAL`].
pub const RECHECK_INTERVAL: Duration = Duration::from_secs(30);

/// Unanswered requests in a row after which a contact yields its place to one that waits: one loss is not death.
pub const FAILURES_TO_YIELD: u8 = 2;

/// Unanswered requests in a row after which a contact goes although nobody wants its place. With the intervals above, after
/// 7.5 minutes: shorter outages of our own network cost no contacts where nothing waits.
pub const FAILURES_TO_FORGET: u8 = 5;

/// How long a bucket may see no lookup before one is made for a key in it.
pub const REFRESH_INTERVAL: Duration = Duration::from_hours(1);

/// How soon one of those that wait for a place is asked whether it is still there: the one heard longest ago, so that whoever gets
/// a place is likely to be there. With 80 of them, each is asked every 3 h.
pub const FEELER_INTERVAL: Duration = Duration::from_mins(2);

/// How soon after it began a node looks for its own neighbours again; doubled with every time, up to [`REFRESH_INTERVAL`]: those
/// who came at the same time could not be named by others then.
pub const NEIGHBOURS_INTERVAL: Duration = Duration::from_mins(1);

/// Contacts without which it does not.
pub const NEIGHBOURS_KNOWN: usize = 4;

/// Nodes to begin with, of different subnets, from each of which a node looks for its own neighbours when it begins.
pub const WAYS_IN: usize = 2;

/// Contacts that are kept over a restart to begin with: long-lived ones, of different subnets.
pub const ANCHORS: usize = 4;

/// Contacts that are read from, and written to, a cache: about 12 KiB.
pub const MAX_SAVED: usize = 256;

/// Independent ways that a lookup takes at the same time. No node is asked in two of them, so that one liar spoils one.
pub const PATHS: u8 = 4;

/// Requests of one path of a lookup that are on their way at a time and not late. With one, a lookup in a network of 200 takes
/// 15 round trips, because the closest nodes are not evenly divided among the paths.
pub const PATH_PARALLELISM: usize = 3;

/// Requests beyond that, of all paths of a lookup together, to nodes that are as close to its target as our own 20 neighbours
/// are to us: they must be asked in any case.
pub const REGION_PARALLELISM: usize = 12;

/// Contacts from which on a node knows well enough who is close to a key to have its records stored there before all closer ones
/// are found. With fewer, too many nodes would store them.
pub const FAMILIAR: usize = K + K / 2;

/// Requests of one lookup that are on their way at a time, late ones included.
pub const MAX_LOOKUP_IN_FLIGHT: usize = 48;

/// How often a request is sent, with the same transaction. With a tenth of the datagrams lost, one in 150 fails.
pub const MAX_TRIES: u8 = 3;

/// Nodes that one path of a lookup asks at most: with honest answers a whole lookup asks 40 to 50.
pub const MAX_ASKED_IN_PATH: u32 = 48;

/// Contacts that one path of a lookup remembers. Above it the farthest that was not asked goes.
pub const MAX_CANDIDATES_IN_PATH: usize = 64;

/// Contacts that one node named, and that were all silent, after which the others that it named are left out.
pub const MAX_BOGUS: u8 = 3;

/// Lookups of the owner that are running or whose results wait to be taken. More are refused.
pub const MAX_LOOKUPS: usize = 24;

/// Requests on their way. What would need more waits, or is left out where it comes again by itself.
pub const MAX_IN_FLIGHT: usize = 256;

/// Datagrams that wait to be taken. Requests count above; above it answers are not made, and who asked asks again.
pub const MAX_QUEUED: usize = 512;

/// Nodes whose keys and tokens are remembered, about 300 bytes each. The one used longest ago goes.
pub const MAX_NODES: usize = 512;

/// How long keys are remembered. After that they cost a key agreement again, about 50 µs: less than the 200 bytes of each are
/// worth, when contacts are asked every 15 minutes.
pub const KEYS_KEPT: Duration = Duration::from_secs(30);

/// How long tokens of others are remembered. They are good for 5 minutes and more, but who is asked again later than this costs no
/// more than a longer request.
pub const TOKENS_KEPT: Duration = Duration::from_mins(2);

/// How often what is too old to be used is given back.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

/// Key agreements for strangers in a second: about 2.5 % of a core, and as much for those who were asked something, and whose keys were
/// forgotten. Above it they are asked to come again with a token.
pub const STRANGERS_PER_SECOND: u32 = 500;

/// Key agreements in a second with nodes that show a token and were not heard for [`KEYS_KEPT`]: about 5 % of a core for our
/// contacts, and as much for all others, half of which may be without a public address. Above it requests are not answered, and who
/// asked asks again.
pub const PROVEN_PER_SECOND: u32 = 1000;

/// Those of one /24 or IPv6 /32 that are no contacts in a second, and at once, where addresses count.
pub const SUBNET_PROVEN_PER_SECOND: u32 = 50;
/// See [`SUBNET_PROVEN_PER_SECOND`].
pub const SUBNET_PROVEN_AT_ONCE: u32 = 200;

/// Requests to store something in a second, each of which costs the check of a signature: about 5 % of a core; half of them may be
/// without a public address. Above it they are refused, and who asked asks again.
pub const WRITES_PER_SECOND: u32 = 1000;

/// Those of one /24 or /48 in a second, and at once, where addresses count: at once as many as it may have records.
pub const SUBNET_WRITES_PER_SECOND: u32 = 50;
/// See [`SUBNET_WRITES_PER_SECOND`].
pub const SUBNET_WRITES_AT_ONCE: u32 = 256;

/// Contacts that asked us something, and that are asked back for the table, in a second.
pub const VERIFIED_PER_SECOND: u32 = 4;

/// Requests in a second, and at once, that one address may make, where addresses count.
pub const REQUESTS_PER_SECOND: u32 = 100;
/// See [`REQUESTS_PER_SECOND`].
pub const REQUESTS_AT_ONCE: u32 = 200;

/// Addresses whose requests are counted. The one that asked longest ago goes.
pub const MAX_COUNTED: usize = 1024;

/// How long one is counted, and then begins anew: that gives it at most a quarter more.
pub const COUNTED_FOR: Duration = Duration::from_secs(20);

/// How long the first request to anybody may take before it is late.
pub const FIRST_TIMEOUT: Duration = Duration::from_millis(500);
/// The least and the most time after which a request is late.
pub const MIN_TIMEOUT: Duration = Duration::from_millis(50);
/// See [`MIN_TIMEOUT`].
pub const MAX_TIMEOUT: Duration = Duration::from_secs(1);

/// Nodes at one address, where addresses count, that are asked at once although they are known by hearsay only, in searches that
/// others want, and after how many seconds one more is. With three datagrams of 1200 bytes each, whom liars name gets 63,000 bytes
/// in a minute at most, no more than by an attempt to reach a peer (SPEC 15.6). Nodes beyond that are passed over.
pub const STRANGERS_ASKED_AT_ONCE: u32 = 5;
/// See [`STRANGERS_ASKED_AT_ONCE`].
pub const STRANGER_ASKED_EVERY: u32 = 8;

/// Addresses for which they are counted. The one that was asked longest ago goes.
pub const MAX_ASKED_COUNTED: usize = 4096;

/// How long they are counted for one, and then begin anew.
pub const ASKED_COUNTED_FOR: Duration = Duration::from_mins(5);

/// How soon an empty table asks those that it was given again; doubled with every time.
pub const FIRST_RETRY: Duration = Duration::from_secs(1);
/// The most that [`FIRST_RETRY`] grows to.
pub const LAST_RETRY: Duration = Duration::from_mins(1);

/// Contacts and addresses to begin with that are remembered. More are refused.
pub const MAX_BOOTSTRAP: usize = 64;

/// Addresses whose word on where they see us is remembered, and told to the owner.
pub const MAX_OBSERVED: usize = 16;

/// The longest value, and salt and value of a signed one together (SPEC 11.5).
pub const MAX_VALUE: usize = 1000;

/// The longest salt of a signed value.
pub const MAX_SALT: usize = 64;

/// Addresses in an announcement.
pub const MAX_ADDRESSES: usize = 4;

/// Relays in an announcement.
pub const MAX_RELAYS: usize = 2;

/// How long an announcement is stored at most.
pub const ANNOUNCEMENT_LIFE: Duration = Duration::from_hours(2);

/// How long everything else is stored at most.
pub const ITEM_LIFE: Duration = Duration::from_hours(24);

/// How often a life is halved at most because nodes closer to the key are known: to 1/64.
pub const MAX_HALVINGS: u32 = 6;

/// How far the clocks of others may be ahead.
pub const CLOCK_TOLERANCE: Duration = Duration::from_mins(10);

/// How soon what we publish is published again, less up to a sixth of it: half the life of an announcement, and soon enough
/// for values where half of the nodes leave in an hour.
pub const PUBLISH_INTERVAL: Duration = Duration::from_hours(1);

/// How soon what nobody stored is published again; doubled with every time, up to [`PUBLISH_INTERVAL`].
pub const PUBLISH_RETRY: Duration = Duration::from_secs(10);

/// What we publish, at most. More is refused.
pub const MAX_PUBLICATIONS: usize = 256;

/// Announcements of one key. Above it those go whose owners missed their time, and those of crowded subnets.
pub const MAX_STORED_PER_TOPIC: usize = 256;

/// Announcements of one key and subnet, where addresses count.
pub const MAX_STORED_PER_TOPIC_AND_SUBNET: usize = 8;

/// Records of one signer.
pub const MAX_STORED_PER_SIGNER: usize = 64;

/// Records of one address (IPv6: /64), where addresses count.
pub const MAX_STORED_PER_ADDRESS: usize = 64;

/// Records of one /24 or /48, where addresses count.
pub const MAX_STORED_PER_SUBNET: usize = 256;

/// Records in all.
pub const MAX_STORED: usize = 50_000;

/// Bytes of all records, with [`STORED_OVERHEAD`] for each.
pub const MAX_STORED_BYTES: usize = 64 << 20;

/// What a record costs besides its bytes: about what its places in the indexes take.
pub const STORED_OVERHEAD: usize = 512;

/// Announcements of one subnet in one answer, where addresses count.
pub const MAX_SUBNET_IN_ANSWER: usize = 2;

/// Contacts for which an answer with announcements keeps room.
pub const CONTACTS_BESIDE: usize = 8;

/// Nodes of which all announcements of a topic are asked, when there are more than fit into their answers.
pub const WALKERS: usize = 3;

/// Further answers that one of them is asked for at most.
pub const MAX_PAGES: u32 = 40;

/// Announcements that one query hands out at most.
pub const MAX_PEERS_FOUND: usize = 1024;

/// Nodes of different subnets, if there are as many, whose newest record is taken for the newest of all.
pub const READ_QUORUM: usize = 3;

/// Requests to store of one publication that are on their way at a time.
pub const MAX_STORES_IN_FLIGHT: usize = 24;

/// Requests in a second, and at once, that one /24 or /48 may make, where addresses count.
pub const SUBNET_REQUESTS_PER_SECOND: u32 = 400;
/// See [`SUBNET_REQUESTS_PER_SECOND`].
pub const SUBNET_REQUESTS_AT_ONCE: u32 = 800;

/// Requests in a second, and at once, without a valid token of one node at one address, where addresses count: 10 in 5 s.
pub const UNPROVEN_PER_SECOND: u32 = 2;
/// See [`UNPROVEN_PER_SECOND`].
pub const UNPROVEN_AT_ONCE: u32 = 10;
