use crypto::Seed;
use dht::{Contact, Distance, Family, Key, NodeId, Subnets, subnet};
use proptest::prelude::*;

/// Bit by bit, as the paper says it.
fn common_bits(a: &[u8; 32], b: &[u8; 32]) -> u32 {
    let bits =
        |bytes: &[u8; 32]| bytes.iter().flat_map(|byte| (0..8).rev().map(move |n| byte >> n & 1)).collect::<Vec<_>>();
    let (a, b) = (bits(a), bits(b));
    u32::try_from(a.iter().zip(&b).take_while(|(a, b)| a == b).count()).unwrap()
}

fn contact(id: u8, addr: &str) -> Contact {
    Contact { id: NodeId::from_bytes([id; 32]), addr: addr.parse().unwrap() }
}

proptest! {
    #![proptest_config(crate::cases(256))]

    #[test]
    fn the_metric(a: [u8; 32], b: [u8; 32], c: [u8; 32], shared in 0_usize..=32) {
        let mut near = b;
        near[..shared].copy_from_slice(&a[..shared]);
        for b in [b, near] {
            let [ka, kb, kc] = [a, b, c].map(Key::from_bytes);
            let distance = ka.distance(&kb);
            prop_assert_eq!(distance, kb.distance(&ka));
            prop_assert_eq!(distance == Distance::ZERO, a == b);
            prop_assert_eq!(distance.common_bits(), common_bits(&a, &b));
            for bit in 0..256 {
                prop_assert_eq!(distance.differs_at(bit), (a[bit / 8] ^ b[bit / 8]) >> (7 - bit % 8) & 1 == 1);
            }
            // As numbers of 256 bits.
            let xor = |x: &[u8; 32], y: &[u8; 32]| x.iter().zip(y).map(|(x, y)| x ^ y).collect::<Vec<u8>>();
            prop_assert_eq!(ka.distance(&kb).cmp(&ka.distance(&kc)), xor(&a, &b).cmp(&xor(&a, &c)));
        }
    }

    #[test]
    fn a_random_key_is_in_the_bucket_asked_for(own: [u8; 32], bits in 0_u32..256, seed: u64) {
        let mut rng = Seed::fixed(seed).rng();
        let own = Key::from_bytes(own);
        let key = own.random_beside(bits, &mut rng);
        prop_assert_eq!(own.distance(&key).common_bits(), bits);
        prop_assert!(bits > 200 || own.random_beside(bits, &mut rng) != key, "the rest is random");
        prop_assert_eq!(own.random_beside(256, &mut rng), own);
    }
}

#[test]
fn keys_follow_from_subnet_and_id() {
    let vectors = [
        ("192.0.2.1:4000", 7, "bb487a780ebff659d6e8fd97fd92bf03f6ffac768529404dfe8e5dc2aa71900e"),
        ("10.1.2.3:4000", 7, "35658bfd0ebff659d6e8fd97fd92bf03f6ffac768529404dfe8e5dc2aa71900e"),
        ("[2001:db8:1:2::3]:9", 9, "c07fb0711aa316ec47050fa924b2278b5d04aa3ff1277f4d4c49ed8b1199a941"),
    ];
    for (addr, id, key) in vectors {
        assert_eq!(Subnets::Public.key_of(&contact(id, addr)).to_string(), key, "{addr}");
    }
    let public = Subnets::Public.key_of(&contact(7, "192.0.2.1:4000"));
    assert_eq!(public, Subnets::Public.key_of(&contact(7, "192.0.2.200:77")), "the same /24");
    assert_eq!(public, Subnets::Public.key_of(&contact(7, "[::ffff:192.0.2.1]:1")), "mapped");
    assert_ne!(public, Subnets::Public.key_of(&contact(7, "192.0.3.1:4000")), "another /24");
    let private = Subnets::Off.key_of(&contact(7, "192.0.2.1:4000"));
    assert_eq!(private, Subnets::Public.key_of(&contact(7, "10.1.2.3:4000")));
    assert_ne!(private, Subnets::All.key_of(&contact(7, "10.1.2.3:4000")));
}

#[test]
fn a_subnet_has_eight_beginnings() {
    let mut rng = Seed::fixed(5).rng();
    let mut fronts: Vec<Vec<u8>> = (0..500)
        .map(|_| Contact { id: NodeId::from_bytes(rng.array()), addr: ([9, 9, 9, 9], 1).into() })
        .map(|contact| Subnets::Public.key_of(&contact).as_bytes()[..4].to_vec())
        .collect();
    fronts.sort();
    fronts.dedup();
    assert_eq!(fronts.len(), 8);
}

#[test]
fn what_is_public_and_what_can_be_sent_to() {
    for ip in ["8.8.8.8", "172.32.0.1", "100.128.0.1", "2600::1", "::ffff:8.8.8.8"] {
        assert!(subnet::is_public(ip.parse().unwrap()), "{ip}");
    }
    let exempt =
        ["10.0.0.1", "172.16.0.1", "192.168.3.4", "127.0.0.1", "169.254.1.1", "100.64.0.1", "0.1.2.3", "224.0.0.1"];
    for ip in exempt.into_iter().chain(["255.255.255.255", "::1", "fe80::1", "fc00::1", "::", "::ffff:10.0.0.1"]) {
        assert!(!subnet::is_public(ip.parse().unwrap()), "{ip}");
    }
    for addr in ["127.0.0.1:1", "[::1]:1", "8.8.8.8:65535"] {
        assert!(subnet::is_usable(&addr.parse().unwrap()), "{addr}");
    }
    let unusable =
        ["8.8.8.8:0", "0.0.0.0:1", "[::]:1", "224.0.0.1:1", "255.255.255.255:1", "[ff02::1]:1", "[::ffff:0.0.0.0]:1"];
    for addr in unusable {
        assert!(!subnet::is_usable(&addr.parse().unwrap()), "{addr}");
    }
    assert_eq!(Family::of(&"[::ffff:1.2.3.4]:1".parse().unwrap()), Family::V4);
    assert_eq!(Family::of(&"[2600::1]:1".parse().unwrap()), Family::V6);
}
