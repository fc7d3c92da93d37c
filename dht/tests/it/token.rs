use std::time::{Duration, Instant};

use crypto::Seed;
use dht::{NodeId, Token, Tokens};

const PERIOD: Duration = Duration::from_secs(300);

#[test]
fn a_token_is_for_one_node_at_one_address() {
    let now = Instant::now();
    let mut tokens = Tokens::new(&Seed::fixed(1), now);
    let (id, addr) = (NodeId::from_bytes([1; 32]), "8.8.8.8:1".parse().unwrap());
    let token = tokens.token(&id, addr, now);
    assert!(tokens.is_valid(token, &id, addr, now));
    assert!(tokens.is_valid(token, &id, "[::ffff:8.8.8.8]:1".parse().unwrap(), now), "the same, mapped");
    assert!(!tokens.is_valid(token, &NodeId::from_bytes([2; 32]), addr, now));
    for other in ["8.8.8.8:2", "8.8.8.9:1", "[2600::1]:1"] {
        assert!(!tokens.is_valid(token, &id, other.parse().unwrap(), now), "{other}");
    }
    for bit in 0..64 {
        let mut bytes = *token.as_bytes();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(!tokens.is_valid(Token::from_bytes(bytes), &id, addr, now), "bit {bit}");
    }
    assert!(!tokens.is_valid(Token::NONE, &id, addr, now));
    let mut others = Tokens::new(&Seed::fixed(2), now);
    assert!(!others.is_valid(token, &id, addr, now), "of another node");
}

#[test]
fn a_token_is_good_for_its_period_and_the_next() {
    let start = Instant::now();
    let (id, addr) = (NodeId::from_bytes([1; 32]), "8.8.8.8:1".parse().unwrap());
    for asked in [Duration::ZERO, PERIOD / 2, PERIOD - Duration::from_nanos(1)] {
        let mut tokens = Tokens::new(&Seed::fixed(1), start);
        let token = tokens.token(&id, addr, start + asked);
        assert!(tokens.is_valid(token, &id, addr, start + PERIOD));
        assert!(tokens.is_valid(token, &id, addr, start + 2 * PERIOD - Duration::from_nanos(1)));
        assert!(!tokens.is_valid(token, &id, addr, start + 2 * PERIOD));
    }
    let mut tokens = Tokens::new(&Seed::fixed(1), start);
    let token = tokens.token(&id, addr, start);
    assert!(!tokens.is_valid(token, &id, addr, start + 50 * PERIOD), "after a long silence");
    let late = tokens.token(&id, addr, start + 50 * PERIOD + PERIOD / 2);
    assert!(tokens.is_valid(late, &id, addr, start + 51 * PERIOD), "periods have no drift");
    assert!(!tokens.is_valid(late, &id, addr, start + 52 * PERIOD));
}
