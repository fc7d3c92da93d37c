//! Messages in batches are the same messages.

use framing::Writer;

use super::super::{Batch, Messages, push_message};
use super::*;

const PROTOCOL: ProtocolId = ProtocolId(0);

fn message(n: u64) -> Vec<u8> {
    let mut random = Random(n);
    let len = if random.chance(5) { random.below(20_000) } else { random.below(150) };
    let mut bytes = n.to_be_bytes().to_vec();
    bytes.extend((0..len).map(|_| random.next() as u8));
    bytes
}

/// A sender and a receiver that take turns between single messages and batches, over a path that loses packets.
#[test]
fn batches_and_single_messages_mix() {
    for seed in 0..6 {
        let now = start();
        let path = Path { loss: seed * 3, duplicates: 2, latency: 5, jitter: 5, rate: 30, room: ROOM };
        let mut net = Net::new(pair(&protocols(&[("a", 1)]), now), path, seed, now);
        const COUNT: u64 = 20_000;
        let (mut sent, mut received, mut acked) = (0, 0, None);
        let (mut single, mut out) = (Vec::new(), Vec::new());
        // Whoever was refused waits for the event, and whoever found nothing for another: both must come.
        let (mut ready, mut told) = (true, false);
        for step in 0.. {
            net.step();
            for event in events(&mut net.sides[0]) {
                match event {
                    Event::SendReady { .. } => ready = true,
                    Event::Acked { through, .. } => acked = Some(through),
                    _ => {}
                }
            }
            while ready && sent < COUNT {
                let mux = &mut net.sides[0];
                if net.random.chance(20) {
                    match mux.send(PROTOCOL, &message(sent), Urgency::Normal) {
                        Ok(id) => {
                            assert_eq!(id, MessageId(sent));
                            sent += 1;
                        }
                        Err(refused) => {
                            assert_eq!(refused, SendError::Blocked);
                            ready = false;
                        }
                    }
                    continue;
                }
                let offered = net.random.below(200).clamp(1, COUNT - sent);
                let mut batch = Vec::new();
                (sent..sent + offered).for_each(|n| push_message(&mut batch, &message(n)));
                // What is not whole is left for later.
                let whole = batch.len();
                batch.extend_from_slice(&[0x40, 3, 1, 2][..net.random.below(5) as usize]);
                match mux.send_batch(PROTOCOL, &batch, Urgency::Normal) {
                    Ok(taken) => {
                        assert_eq!(taken.first, MessageId(sent));
                        assert_eq!(Messages::new(&batch[..taken.bytes]).count() as u64, taken.messages);
                        assert_eq!(taken.bytes == whole, taken.messages == offered);
                        sent += taken.messages;
                        ready = taken.messages == offered;
                    }
                    Err(refused) => {
                        assert_eq!(refused, SendError::Blocked);
                        ready = false;
                    }
                }
            }
            for event in events(&mut net.sides[1]) {
                told |= matches!(event, Event::Message { .. });
            }
            while told && net.random.chance(90) {
                let mux = &mut net.sides[1];
                if net.random.chance(20) {
                    match mux.recv(PROTOCOL, &mut single) {
                        Some(_) => {
                            assert_eq!(single, message(received));
                            received += 1;
                        }
                        None => told = false,
                    }
                    continue;
                }
                out.clear();
                let max = net.random.below(40_000) as usize;
                let messages = mux.recv_batch(PROTOCOL, &mut out, max);
                assert!(out.len() <= max || messages == 1, "{} of {max}", out.len());
                told = messages > 0;
                let mut taken = Messages::new(&out);
                for n in received..received + messages {
                    assert_eq!(taken.next(), Some(&*message(n)));
                }
                assert_eq!(taken.next(), None);
                received += messages;
            }
            if received == COUNT && acked == Some(MessageId(COUNT - 1)) {
                break;
            }
            assert!(step < 20_000, "seed {seed}: {sent} sent, {received} received");
        }
        let account = net.sides[0].account(PROTOCOL, Urgency::Normal);
        assert_eq!(account, Account { accepted: COUNT, acked: COUNT, unknown: 0, unsent: 0 });
    }
}

#[test]
fn urgent_messages_are_first_in_a_batch() {
    let now = start();
    let mut sides = pair(&protocols(&[("a", 1)]), now);
    for (urgency, fill) in [(Urgency::Normal, 1), (Urgency::Urgent, 2), (Urgency::Normal, 3), (Urgency::Urgent, 4)] {
        sides[0].send(PROTOCOL, &[fill; 3], urgency).unwrap();
    }
    settle(&mut sides, now);
    let mut out = Vec::new();
    assert_eq!(sides[1].recv_batch(PROTOCOL, &mut out, 0), 1, "one, whatever there is room for");
    assert_eq!(sides[1].recv_batch(PROTOCOL, &mut out, 8), 2);
    assert_eq!(sides[1].recv_batch(PROTOCOL, &mut out, 100), 1);
    assert_eq!(sides[1].recv_batch(PROTOCOL, &mut out, 100), 0);
    assert_eq!(Messages::new(&out).map(|message| message[0]).collect::<Vec<_>>(), [2, 4, 1, 3]);
}

#[test]
fn what_stands_against_one_message_ends_a_batch_and_is_told_next() {
    let now = start();
    let mut sides = pair(&protocols(&[("a", 1)]), now);
    let mux = &mut sides[0];
    assert_eq!(mux.send_batch(ProtocolId(1), &[1, 0], Urgency::Normal), Err(SendError::NotRegistered));
    let nothing = Batch { first: MessageId(0), messages: 0, bytes: 0 };
    for empty in [&[][..], &[5, 1, 2], &[0x80]] {
        assert_eq!(mux.send_batch(PROTOCOL, empty, Urgency::Normal), Ok(nothing));
    }
    let max = Limits::default().max_message;
    let mut batch = Vec::new();
    push_message(&mut batch, b"one");
    push_message(&mut batch, &vec![2; max + 1]);
    push_message(&mut batch, b"three");
    let taken = mux.send_batch(PROTOCOL, &batch, Urgency::Normal).unwrap();
    assert_eq!((taken.messages, taken.bytes), (1, 4));
    let refused = mux.send_batch(PROTOCOL, &batch[taken.bytes..], Urgency::Normal);
    assert_eq!(refused, Err(SendError::TooLarge { len: max + 1, max }));

    // A length in a longer form than needed is written in the shortest.
    let mut long = vec![0x40, 1, b'a', 0x80, 0, 0, 1, b'b'];
    Writer::new(&mut long).put(&[1, b'c']);
    let mut left = &long[..];
    while !left.is_empty() {
        let taken = mux.send_batch(PROTOCOL, left, Urgency::Normal).unwrap();
        left = &left[taken.bytes..];
    }
    settle(&mut sides, now);
    let mut out = Vec::new();
    assert_eq!(sides[1].recv_batch(PROTOCOL, &mut out, 100), 4);
    assert_eq!(out, b"\x03one\x01a\x01b\x01c");
}
