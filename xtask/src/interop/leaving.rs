//! Nodes that leave, and others who say that they do.

use std::time::{Duration, Instant};

use super::lab::{Finding, Kind, Lab, Rows};
use super::messages::converse;
use super::node::Node;

/// A peer is given up after a minute of silence; one that has said goodbye well before that.
const SOON: Duration = Duration::from_secs(20);

/// A forged goodbye would have been acted on by then.
const WELL_AFTER: Duration = Duration::from_secs(10);

/// The frame, as the reference understands it (it ignores anything shorter than two bytes).
const GOODBYE: &str = "0a00";

const IGNORES_ONE_BYTE: &str = "the reference says goodbye with one byte, and ignores whatever has fewer than two";

/// All rows about leaving.
pub(super) fn all(lab: &Lab, rows: &mut Rows<'_>) -> anyhow::Result<()> {
    for [leaver, stayer] in lab.directions() {
        let between_references = leaver == Kind::Reference && stayer == Kind::Reference;
        let fault = between_references.then_some(IGNORES_ONE_BYTE);
        rows.add(&format!("leaving {leaver} quits, {stayer} is told"), fault, quits(lab, leaver, stayer))?;
        if leaver == Kind::Ours {
            let found = goaway(lab, leaver, stayer);
            rows.add(&format!("leaving {leaver} says goodbye to {stayer}"), fault, found)?;
        }
        if leaver == Kind::Reference {
            let name = format!("leaving {leaver} says goodbye with two bytes and is silent, {stayer} believes it");
            rows.add(&name, None, silent(lab, leaver, stayer))?;
            let fault = between_references.then_some("the reference believes any goodbye from an address it knows");
            let name = format!("leaving forged goodbye of {leaver}, {stayer} does not believe it");
            rows.add(&name, fault, forged(lab, leaver, stayer))?;
        }
    }
    Ok(())
}

fn told(stayer: &mut Node, leaver: &str, start: Instant) -> anyhow::Result<Finding> {
    stayer.of_peer("disconnect", leaver, SOON)?;
    Ok(Finding::took(start.elapsed()).noting("until `disconnect`"))
}

fn quits(lab: &Lab, leaver: Kind, stayer: Kind) -> anyhow::Result<Finding> {
    let (leaver, mut stayer) = lab.connected(leaver, stayer)?;
    let (name, start) = (leaver.name().to_owned(), Instant::now());
    leaver.quit()?;
    told(&mut stayer, &name, start)
}

fn goaway(lab: &Lab, leaver: Kind, stayer: Kind) -> anyhow::Result<Finding> {
    let (mut leaver, mut stayer) = lab.connected(leaver, stayer)?;
    let start = Instant::now();
    leaver.tell("goaway *")?;
    told(&mut stayer, leaver.name(), start)
}

fn silent(lab: &Lab, leaver: Kind, stayer: Kind) -> anyhow::Result<Finding> {
    let (mut leaver, mut stayer) = lab.connected(leaver, stayer)?;
    let (name, start) = (leaver.name().to_owned(), Instant::now());
    leaver.tell(&format!("raw {} {GOODBYE}", stayer.addr))?;
    leaver.settle()?;
    leaver.kill()?;
    told(&mut stayer, &name, start)
}

/// What arrives from the address of a peer that is still there is what a forger can send.
fn forged(lab: &Lab, victim: Kind, stayer: Kind) -> anyhow::Result<Finding> {
    let (mut victim, mut stayer) = lab.connected(victim, stayer)?;
    victim.tell(&format!("raw {} {GOODBYE}", stayer.addr))?;
    if let Ok(event) = stayer.of_peer("disconnect", victim.name(), WELL_AFTER) {
        anyhow::bail!("it was believed: {event}");
    }
    converse(lab, &mut victim, &mut stayer, 2)?;
    Ok(Finding::took(WELL_AFTER).noting("the connection outlived it by this, and carried messages"))
}
