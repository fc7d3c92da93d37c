use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use sim::{Addresses, Captured, Samples, Trace, pcap};

#[test]
fn percentiles_are_samples_by_nearest_rank() {
    let samples = Samples::new([15, 20, 35, 40, 50].into_iter().rev());
    let points = [0.0, 5.0, 30.0, 40.0, 50.0, 99.0, 100.0].map(|percent| samples.percentile(percent).unwrap());
    assert_eq!(points, [15, 15, 20, 20, 35, 50, 50]);
    assert_eq!((samples.min(), samples.median(), samples.max(), samples.len()), (Some(15), Some(35), Some(50), 5));
    assert_eq!(samples.to_string(), "n=5 min=15 p50=35 p90=50 p99=50 max=50");
    let none = Samples::<Duration>::new([]);
    assert!(none.is_empty() && none.median().is_none() && none.min().is_none());
    assert_eq!(none.to_string(), "n=0");
}

#[test]
fn a_trace_tells_order_length_and_every_bit_apart() {
    let hash = |add: &dyn Fn(&mut Trace)| {
        let mut trace = Trace::new();
        add(&mut trace);
        trace.hash()
    };
    let mut hashes = BTreeSet::from([hash(&|_| {}), hash(&|trace| trace.bytes(b"")), hash(&|trace| trace.bytes(&[0]))]);
    hashes.insert(hash(&|trace| trace.bytes(&[0; 8])));
    hashes.insert(hash(&|trace| [1, 2].into_iter().for_each(|value| trace.number(value))));
    hashes.insert(hash(&|trace| [2, 1].into_iter().for_each(|value| trace.number(value))));
    hashes.insert(hash(&|trace| trace.addr(Addresses::Private.at(0))));
    hashes.insert(hash(&|trace| trace.time(Duration::from_nanos(1_000))));
    for bit in 0..160 {
        let mut bytes = [0; 20];
        bytes[bit / 8] = 1 << (bit % 8);
        hashes.insert(hash(&|trace| trace.bytes(&bytes)));
    }
    assert_eq!(hashes.len(), 168);
}

#[test]
fn every_machine_has_an_address_of_the_kind_asked_for() {
    assert_eq!(Addresses::Private.at(0).to_string(), "10.0.0.1:4000");
    assert_eq!(Addresses::Private.at(1).to_string(), "10.0.0.2:4000");
    assert_eq!(Addresses::Private.at(256).to_string(), "10.0.1.1:4000");
    assert_eq!(Addresses::Loopback.at(7).to_string(), "127.0.0.1:4007");
    for plan in [Addresses::Private, Addresses::Loopback, Addresses::Public] {
        let addrs: BTreeSet<_> = (0..60_000).map(|index| plan.at(index)).collect();
        assert_eq!(addrs.len(), 60_000);
    }
    let prefix = |index, octets: usize| match Addresses::Public.at(index).ip() {
        IpAddr::V4(ip) => ip.octets()[..octets].to_vec(),
        IpAddr::V6(_) => panic!("an IPv4 plan"),
    };
    assert_eq!((0..71).map(|index| prefix(index, 1)).collect::<BTreeSet<_>>().len(), 71);
    assert_eq!((0..18_176).map(|index| prefix(index, 2)).collect::<BTreeSet<_>>().len(), 18_176);
    assert_eq!((0..60_000).map(|index| prefix(index, 3)).collect::<BTreeSet<_>>().len(), 60_000);
}

#[test]
fn captures_hold_ipv6_and_leave_out_what_is_no_packet() {
    let datagram = |from: &str, to: &str, len| Captured {
        at: Duration::from_nanos(3_000_000_007),
        from: from.parse().unwrap(),
        to: to.parse().unwrap(),
        dropped: None,
        payload: vec![1; len],
    };
    let file = pcap(&[
        datagram("[2001:db8::1]:5", "[2001:db8::2]:6", 4),
        datagram("[2001:db8::1]:5", "10.0.0.1:6", 4),
        datagram("10.0.0.1:5", "10.0.0.2:6", 65_508),
    ]);
    assert_eq!(file.len(), 24 + 16 + 40 + 8 + 4);
    assert_eq!(file[24..32], [3, 0, 0, 0, 7, 0, 0, 0]);
    assert_eq!(file[40..48], [0x60, 0, 0, 0, 0, 12, 17, 64]);
    let pseudo = [&file[48..80], &[0, 17, 0, 12], &file[80..]].concat();
    let sum: u32 = pseudo.chunks(2).map(|word| u32::from(word[0]) << 8 | u32::from(word[1])).sum();
    assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
}
