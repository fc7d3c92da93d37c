//! What is asked of the models, and what must come out.

use anyhow::{Context as _, ensure};

/// A change of the text of a model. A control is the model with a change, so it cannot fall behind it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Edit {
    /// Leaves out this Diffie-Hellman result (`ee`) on both sides: nothing is mixed in its place.
    Without(&'static str),
    /// The attacker has this private key (`rs`) before anything is sent.
    Stolen(&'static str),
    /// Every occurrence of the first text becomes the second.
    Replace(&'static str, &'static str),
    /// The principal stops behind this line, and so does everything.
    StopAfter(&'static str),
    /// Nothing from this line on.
    StopBefore(&'static str),
    /// Put before the queries.
    Append(&'static str),
}

use Edit::{Append, Replace, Stolen, StopAfter, StopBefore, Without};

/// A question to the checker with the answer it must give.
#[derive(Clone, Copy, Debug)]
pub(super) struct Check {
    /// Also the name of the file in `target/model`.
    pub(super) name: &'static str,
    /// The file in `models`.
    pub(super) base: &'static str,
    /// How many runs of each principal the attacker may mix.
    pub(super) sessions: u8,
    /// For each query its kind (`c`onfidentiality, `a`uthentication, `f`reshness, `e`quivalence), then 0 if it must hold
    /// and 1 if there must be an attack.
    pub(super) code: &'static str,
    /// What that says about the protocol.
    pub(super) shows: &'static str,
    edits: &'static [Edit],
    /// The queries; those in the file when empty.
    queries: &'static [&'static str],
}

impl Check {
    /// The file as it is: everything it asks holds.
    const fn model(
        name: &'static str,
        base: &'static str,
        sessions: u8,
        code: &'static str,
        shows: &'static str,
    ) -> Self {
        Self { name, base, sessions, code, shows, edits: &[], queries: &[] }
    }

    const fn but(self, edits: &'static [Edit]) -> Self {
        Self { edits, ..self }
    }

    const fn asking(self, queries: &'static [&'static str]) -> Self {
        Self { queries, ..self }
    }

    /// What the checker must exit with under `--fail-on-attack`.
    pub(super) fn exit_code(&self) -> i32 {
        if self.code.contains('1') { 2 } else { 0 }
    }

    /// The model to check, made of the text of its file.
    ///
    /// # Errors
    /// When an edit finds nothing to change.
    pub(super) fn text(&self, file: &str) -> anyhow::Result<String> {
        let (body, queries) = file.split_once("queries[").with_context(|| format!("{} asks nothing", self.base))?;
        let mut body = body.to_owned();
        for edit in self.edits {
            body = edit.apply(&body).with_context(|| format!("{}: {edit:?} of {}", self.name, self.base))?;
        }
        if self.queries.is_empty() {
            return Ok(format!("{body}queries[{queries}"));
        }
        Ok(format!("{body}queries[\n\t{}\n]\n", self.queries.join("\n\t")))
    }

    /// The queries, one for each pair in `code`.
    #[cfg(test)]
    fn asked(&self, file: &str) -> Vec<String> {
        let text = self.text(file).unwrap();
        let (_, queries) = text.split_once("queries[").unwrap();
        queries.lines().map(|line| line.trim().to_owned()).filter(|line| line.contains('?')).collect()
    }
}

impl Edit {
    fn apply(self, text: &str) -> anyhow::Result<String> {
        let replace = |from: &str, to: &str| {
            ensure!(text.contains(from), "there is no `{from}`");
            Ok(text.replace(from, to))
        };
        match self {
            Without(dh) => {
                let sides = [format!(", {dh}_i, nil)"), format!(", {dh}_r, nil)")];
                ensure!(sides.iter().all(|side| text.matches(side).count() == 1), "`{dh}` is not mixed once by each");
                Ok(sides.iter().fold(text.to_owned(), |text, side| text.replace(side, ", nil, nil)")))
            }
            Stolen(key) => {
                let public = format!("\tg{key} = PUBKEY({key})\n");
                replace(&public, &format!("{public}\tleaks {key}\n"))
            }
            Replace(from, to) => replace(from, to),
            StopAfter(line) => {
                let (before, _) = text.split_once(line).with_context(|| format!("there is no `{line}`"))?;
                Ok(format!("{before}{line}\n]\n\n"))
            }
            StopBefore(line) => {
                let (before, _) = text.split_once(line).with_context(|| format!("there is no `{line}`"))?;
                Ok(before.to_owned())
            }
            Append(more) => Ok(format!("{text}{more}\n\n")),
        }
    }
}

/// INIT, and nothing behind it.
const INIT_ONLY: Edit = StopAfter("\toffer_i_r = AEAD_DEC(k2_r, zero, init, h2_r)?");
/// INIT_R, and nothing behind it.
const INIT_R_ONLY: Edit = StopAfter("\toffer_i_r = AEAD_DEC(k2_r, zero, init, h1_r)?");
/// Nobody knows whose key to expect of the initiator.
const ANONYMOUS: [Edit; 2] =
    [Replace("Initiator -> Responder: [gis]\n", ""), Replace("\t_ = ASSERT(gis_r, gis)?\n", "")];

/// The responder's key is stolen when all is over.
const LATER_RS: Edit = Append("phase[1]\n\nprincipal Responder[\n\tleaks rs\n]");
/// The random values of a side are the same in all of its runs.
const SAME_INITIATOR: Edit =
    Replace("\tgenerates ie, offer_i\n", "\tknows private ie, salt_i\n\toffer_i = HASH(salt_i)\n");
const SAME_RESPONDER: Edit =
    Replace("\tgenerates re, offer_r\n", "\tknows private re, salt_r\n\toffer_r = HASH(salt_r)\n");

const FROM_INITIATOR: [&str; 2] =
    ["authentication? Initiator -> Responder: init", "authentication? Initiator -> Responder: record_i"];
const FROM_RESPONDER: [&str; 3] = [
    "authentication? Responder -> Initiator: resp",
    "authentication? Responder -> Initiator: record_r",
    "confidentiality? m_i",
];
const FROM_INITIATOR_XX: [&str; 2] =
    ["authentication? Initiator -> Responder: xx3", "authentication? Initiator -> Responder: record_i"];
const FROM_RESPONDER_XX: [&str; 3] = [
    "authentication? Responder -> Initiator: xx2",
    "authentication? Responder -> Initiator: record_r",
    "confidentiality? m_i",
];

/// Why a thief of the responder's key cannot pose as others to it, nor one of the initiator's.
const KCI_R: &str = "whoever has the responder's key cannot pose as others to it";
const KCI_I: &str = "whoever has the initiator's key cannot pose as others to it, nor read what it sends";

/// Every check, by file.
pub(super) const ALL: &[Check] = &[
    Check::model(
        "ik",
        "ik.vp",
        2,
        "c0c0c0a0a0a0a0f0f0",
        "both directions and the ticket's key stay secret when both long-term keys are stolen later; \
         both sides are authenticated and agree on all payloads; first records are fresh",
    ),
    Check::model("ik-responder-key-stolen", "ik.vp", 2, "a0a0", KCI_R)
        .but(&[Stolen("rs"), StopBefore("phase[1]")])
        .asking(&FROM_INITIATOR),
    Check::model("ik-initiator-key-stolen", "ik.vp", 2, "a0a0c0", KCI_I)
        .but(&[Stolen("is"), StopBefore("phase[1]")])
        .asking(&FROM_RESPONDER),
    Check::model("ik-no-ee", "ik.vp", 1, "c1c1c1a0a0a0a0f0f0", "without ee nothing is forward secret")
        .but(&[Without("ee")]),
    Check::model("ik-no-se-no-ss", "ik.vp", 1, "c0c1c0a1a1a0a0f0f0", "without se and ss anybody is the initiator")
        .but(&[Without("se"), Without("ss")]),
    Check::model("ik-no-es-no-ss", "ik.vp", 1, "c1c0c1a0a0a1a1f0f0", "without es and ss anybody is the responder")
        .but(&[Without("es"), Without("ss")]),
    Check::model(
        "ik-responder-key-stolen-no-se",
        "ik.vp",
        1,
        "a1a1",
        "without se whoever has the responder's key poses as others to it",
    )
    .but(&[Stolen("rs"), StopBefore("phase[1]"), Without("se")])
    .asking(&FROM_INITIATOR),
    Check::model("ik-responder-key-stolen-no-es", "ik.vp", 1, "a0a0", "es has no part in that")
        .but(&[Stolen("rs"), StopBefore("phase[1]"), Without("es")])
        .asking(&FROM_INITIATOR),
    Check::model("ik-responder-key-stolen-no-ss", "ik.vp", 1, "a0a0", "nor has ss, once the session is confirmed")
        .but(&[Stolen("rs"), StopBefore("phase[1]"), Without("ss")])
        .asking(&FROM_INITIATOR),
    Check::model(
        "ik-initiator-key-stolen-no-es",
        "ik.vp",
        1,
        "a1a1c1",
        "without es whoever has the initiator's key poses as others to it",
    )
    .but(&[Stolen("is"), StopBefore("phase[1]"), Without("es")])
    .asking(&FROM_RESPONDER),
    Check::model(
        "ik-repeating-responder",
        "ik.vp",
        2,
        "f1",
        "a responder that repeats its random values takes a whole session twice",
    )
    .but(&[StopBefore("phase[1]"), SAME_RESPONDER])
    .asking(&["freshness? record_i"]),
    Check::model("ik-repeating-initiator", "ik.vp", 2, "f1", "so does an initiator that repeats its own")
        .but(&[StopBefore("phase[1]"), SAME_INITIATOR])
        .asking(&["freshness? record_r"]),
    Check::model("init", "ik.vp", 1, "a0c0", "INIT alone names its sender, and its payload is secret")
        .but(&[INIT_ONLY])
        .asking(&["authentication? Initiator -> Responder: init", "confidentiality? offer_i"]),
    Check::model(
        "init-replayed",
        "ik.vp",
        2,
        "a1f1c0",
        "INIT alone can be replayed: the responder sends nothing and counts nothing before the first record",
    )
    .but(&[INIT_ONLY])
    .asking(&["authentication? Initiator -> Responder: init", "freshness? init", "confidentiality? offer_i"]),
    Check::model("init-no-ss", "ik.vp", 1, "a1", "without ss INIT is forged outright")
        .but(&[INIT_ONLY, Without("ss")])
        .asking(&["authentication? Initiator -> Responder: init"]),
    Check::model("init-identity", "ik.vp", 1, "c0", "the initiator's key is not to be seen")
        .but(&[INIT_ONLY, ANONYMOUS[0], ANONYMOUS[1]])
        .asking(&["confidentiality? gis"]),
    Check::model(
        "init-opened-later",
        "ik.vp",
        1,
        "c1c1",
        "a thief of the responder's key reads who sent recorded INITs and what they offer: nothing else goes in",
    )
    .but(&[INIT_ONLY, ANONYMOUS[0], ANONYMOUS[1], LATER_RS])
    .asking(&["confidentiality? gis", "confidentiality? offer_i"]),
    Check::model(
        "xx",
        "xx.vp",
        2,
        "c0c0a0a0a0a0f0f0",
        "as ik, when the initiator compares the responder's key with the one it expects",
    ),
    Check::model(
        "xx3",
        "xx.vp",
        2,
        "a0f0",
        "XX3 alone names its sender and cannot be replayed: it confirms the session",
    )
    .but(&[StopAfter("\toffer_i_r = AEAD_DEC(k3_r, zero, xx3, h5_r)?")])
    .asking(&["authentication? Initiator -> Responder: xx3", "freshness? xx3"]),
    Check::model("xx3-no-se", "xx.vp", 1, "a1", "without se XX3 is forged outright")
        .but(&[StopAfter("\toffer_i_r = AEAD_DEC(k3_r, zero, xx3, h5_r)?"), Without("se")])
        .asking(&["authentication? Initiator -> Responder: xx3"]),
    Check::model("xx-responder-key-stolen", "xx.vp", 1, "a0a0", KCI_R)
        .but(&[Stolen("rs"), StopBefore("phase[1]")])
        .asking(&FROM_INITIATOR_XX),
    Check::model("xx-initiator-key-stolen", "xx.vp", 1, "a0a0c0", KCI_I)
        .but(&[Stolen("is"), StopBefore("phase[1]")])
        .asking(&FROM_RESPONDER_XX),
    Check::model("xx-no-ee", "xx.vp", 1, "c1c1a0a0a0a0f0f0", "without ee nothing is forward secret")
        .but(&[Without("ee")]),
    Check::model("xx-no-se", "xx.vp", 1, "c0c1a1a1a0a0f0f0", "without se anybody is the initiator")
        .but(&[Without("se")]),
    Check::model("xx-no-es", "xx.vp", 1, "c1c0a0a0a1a1f0f0", "without es anybody is the responder")
        .but(&[Without("es")]),
    Check::model(
        "xx-any-responder",
        "xx.vp",
        1,
        "c1c0a0a0a1a1f0f0",
        "without an expected key the initiator talks to whoever answers",
    )
    .but(&[Replace("\t_ = ASSERT(grs_i, grs)?\n", "")]),
    Check::model(
        "xx-repeating-responder",
        "xx.vp",
        2,
        "f1f1",
        "a responder that repeats its random values takes a whole session twice",
    )
    .but(&[StopBefore("phase[1]"), SAME_RESPONDER])
    .asking(&["freshness? xx3", "freshness? record_i"]),
    Check::model("xx-repeating-initiator", "xx.vp", 2, "f1", "so does an initiator that repeats its own")
        .but(&[StopBefore("phase[1]"), SAME_INITIATOR])
        .asking(&["freshness? record_r"]),
    Check::model(
        "xx-identity",
        "xx.vp",
        1,
        "c0",
        "the initiator's key is not to be seen, even if the responder's is stolen later",
    )
    .but(&[ANONYMOUS[0], ANONYMOUS[1], StopBefore("phase[1]"), LATER_RS])
    .asking(&["confidentiality? gis"]),
    Check::model(
        "xx-identity-any-responder",
        "xx.vp",
        1,
        "c1",
        "without an expected key it is shown to whoever answers",
    )
    .but(&[ANONYMOUS[0], ANONYMOUS[1], StopBefore("phase[1]"), Replace("\t_ = ASSERT(grs_i, grs)?\n", "")])
    .asking(&["confidentiality? gis"]),
    Check::model("xx-responder-asked", "xx.vp", 1, "c1", "whoever sends XX1 learns whose key answers")
        .but(&[
            StopBefore("phase[1]"),
            Replace("Responder -> Initiator: [grs]\n", ""),
            Replace("\t_ = ASSERT(grs_i, grs)?\n", ""),
        ])
        .asking(&["confidentiality? grs"]),
    Check::model(
        "resume",
        "resume.vp",
        2,
        "c0c0c0a0a0a0a0f0f0",
        "the ticket authenticates both sides, even one used twice; stolen afterwards it opens nothing, \
         nor does it give the ticket that the session issued",
    ),
    Check::model(
        "resume-no-ee",
        "resume.vp",
        1,
        "c1c1c1a0a0a0a0f0f0",
        "without ee whoever steals the ticket reads what was recorded",
    )
    .but(&[Without("ee")]),
    Check::model(
        "resume-ticket-stolen",
        "resume.vp",
        1,
        "c1c1c1a1a1a1a1",
        "whoever has a ticket before its use is either side: it is deleted before RESP_R is sent",
    )
    .but(&[
        StopBefore("phase[1]"),
        Replace(
            "principal Initiator[\n\tknows private psk\n",
            "principal Initiator[\n\tknows private psk\n\tleaks psk\n",
        ),
    ])
    .asking(&[
        "confidentiality? m_i",
        "confidentiality? m_r",
        "confidentiality? next_psk_i",
        "authentication? Initiator -> Responder: init",
        "authentication? Initiator -> Responder: record_i",
        "authentication? Responder -> Initiator: resp",
        "authentication? Responder -> Initiator: record_r",
    ]),
    Check::model("resume-init", "resume.vp", 1, "a0", "INIT_R alone comes from an owner of the ticket")
        .but(&[INIT_R_ONLY])
        .asking(&["authentication? Initiator -> Responder: init"]),
    Check::model(
        "resume-init-replayed",
        "resume.vp",
        2,
        "a1f1",
        "for a ticket that is used twice INIT_R can be replayed: that it is used once is state, which no model has",
    )
    .but(&[INIT_R_ONLY])
    .asking(&["authentication? Initiator -> Responder: init", "freshness? init"]),
    Check::model(
        "resume-repeating-responder",
        "resume.vp",
        2,
        "f1",
        "a responder that repeats its random values takes a whole session twice",
    )
    .but(&[StopBefore("phase[1]"), SAME_RESPONDER])
    .asking(&["freshness? record_i"]),
    Check::model("resume-repeating-initiator", "resume.vp", 2, "f1", "so does an initiator that repeats its own")
        .but(&[StopBefore("phase[1]"), SAME_INITIATOR])
        .asking(&["freshness? record_r"]),
    Check::model(
        "ticket",
        "ticket.vp",
        1,
        "c0c0a0a0",
        "a session by IK, its ticket, the session resumed with it: secret and authenticated, \
         and secret still when the ticket and both long-term keys are stolen later",
    ),
    Check::model(
        "ticket-no-ee",
        "ticket.vp",
        1,
        "c1c1",
        "without ee in the second handshake the ticket opens the session",
    )
    .but(&[Replace(", ee_i_2, nil)", ", nil, nil)"), Replace(", ee_r_2, nil)", ", nil, nil)")])
    .asking(&["confidentiality? m_i_2", "confidentiality? m_r_2"]),
    Check::model("ticket-no-psk", "ticket.vp", 1, "c1c1a1a1", "without the ticket's key anybody resumes").but(&[
        Replace("HKDF(suite_psk, psk_i, nil)", "HKDF(suite_psk, nil, nil)"),
        Replace("HKDF(suite_psk, psk_r, nil)", "HKDF(suite_psk, nil, nil)"),
    ]),
    Check::model(
        "negotiation",
        "negotiation.vp",
        2,
        "e0e0",
        "no attacker makes the two sides see different offers, or speak after different headers: no downgrade",
    ),
    Check::model(
        "negotiation-offers-beside",
        "negotiation.vp",
        1,
        "e1e1",
        "offers that travel beside the handshake are downgraded",
    )
    .but(&[
        Replace("Initiator -> Responder: head_i, gie", "Initiator -> Responder: said_i, head_i, gie"),
        Replace("Responder -> Initiator: head_r, gre", "Responder -> Initiator: said_r, head_r, gre"),
        Replace("\thead_i = CONCAT(d0, layout)\n", "\thead_i = CONCAT(d0, layout)\n\tsaid_i = HASH(offer_i)\n"),
        Replace("\thead_r = CONCAT(d1, layout)\n", "\thead_r = CONCAT(d1, layout)\n\tsaid_r = HASH(offer_r)\n"),
        Replace("HASH(offer_i_r, offer_r)", "HASH(said_i, said_r)"),
        Replace("HASH(offer_i, offer_r_i)", "HASH(said_i, said_r)"),
        Replace("CONCAT(record, cipher_r, ", "CONCAT(record, "),
        Replace("CONCAT(record, cipher_i, ", "CONCAT(record, "),
    ]),
    Check::model(
        "negotiation-headers-beside",
        "negotiation.vp",
        1,
        "e0e1",
        "headers that no key depends on are changed at will",
    )
    .but(&[Replace("network, head_i)", "network)"), Replace(", head_r))", "))")]),
    Check::model(
        "rekey",
        "rekey.vp",
        1,
        "c0c0a0a0",
        "keys stolen after the exchange neither read nor forge what follows; a plain update protects what came before",
    ),
    Check::model("rekey-overheard", "rekey.vp", 1, "c0c0", "nor do keys stolen before it, in the hands of a listener")
        .but(&[
            Replace("attacker[active]", "attacker[passive]"),
            Replace("\tleaks secret_i, secret_r\n", ""),
            Replace("\tgie = PUBKEY(ie)\n", "\tgie = PUBKEY(ie)\n\tleaks secret_i, secret_r\n"),
        ])
        .asking(&["confidentiality? m_i", "confidentiality? m_r"]),
    Check::model("rekey-no-ee", "rekey.vp", 1, "c1c1a1a1", "without ee the exchange does not heal")
        .but(&[Replace("CONCAT(ee_i, ", "CONCAT("), Replace("CONCAT(ee_r, ", "CONCAT(")]),
    Check::model(
        "rekey-attacked",
        "rekey.vp",
        1,
        "c1c1a1a1",
        "whoever has the keys and can change packets during the exchange stays: only a new handshake helps",
    )
    .but(&[
        Replace("\tleaks secret_i, secret_r\n", ""),
        Replace("\tgie = PUBKEY(ie)\n", "\tgie = PUBKEY(ie)\n\tleaks secret_i, secret_r\n"),
    ]),
    Check::model("rekey-no-update", "rekey.vp", 1, "c1c1a0a0", "keys that were not updated open what was recorded")
        .but(&[Replace("leaks later_i_i", "leaks mixed_i_i"), Replace("leaks later_r_r", "leaks mixed_r_r")]),
];

/// The row of a check in the table of `models/README.md`.
#[cfg(test)]
fn line(check: &Check) -> String {
    format!("| `{}` | {} | `{}` | {} |", check.name, check.sessions, check.code, check.shows)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    fn folder() -> PathBuf {
        crate::workspace::root().join("models")
    }

    /// The models by name of file.
    fn models() -> BTreeMap<String, String> {
        let entries = fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
        let models = entries.filter(|path| path.extension().is_some_and(|end| end == "vp"));
        models
            .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap()))
            .collect()
    }

    #[test]
    fn every_model_is_checked_as_it_is_and_has_controls() {
        let models = models();
        let bases: BTreeSet<&str> = ALL.iter().map(|check| check.base).collect();
        assert_eq!(models.keys().map(String::as_str).collect::<BTreeSet<_>>(), bases);
        for (file, text) in &models {
            let of: Vec<&Check> = ALL.iter().filter(|check| check.base == file).collect();
            let plain: Vec<&&Check> = of.iter().filter(|check| check.text(text).unwrap() == *text).collect();
            assert_eq!(plain.len(), 1, "{file}");
            assert_eq!(plain[0].exit_code(), 0, "{file}");
            assert_eq!(format!("{}.vp", plain[0].name), *file);
        }
    }

    /// A question that no attack ever answers may be one that cannot be answered.
    #[test]
    fn every_query_of_a_model_fails_in_some_control() {
        for (file, text) in &models() {
            let mut left: BTreeSet<String> = BTreeSet::new();
            let mut failed: BTreeSet<String> = BTreeSet::new();
            for check in ALL.iter().filter(|check| check.base == file) {
                let asked = check.asked(text);
                let verdicts: Vec<&str> =
                    check.code.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap()).collect();
                let kinds: Vec<&str> = verdicts.iter().map(|pair| &pair[..1]).collect();
                assert_eq!(asked.iter().map(|query| &query[..1]).collect::<Vec<_>>(), kinds, "{}", check.name);
                for (query, verdict) in asked.into_iter().zip(verdicts) {
                    match &verdict[1..] {
                        "0" => left.insert(query),
                        "1" => failed.insert(query),
                        _ => panic!("{}: {}", check.name, check.code),
                    };
                }
            }
            assert_eq!(left.difference(&failed).collect::<Vec<_>>(), [""; 0], "{file}");
        }
    }

    #[test]
    fn names_are_unique_and_short_enough_for_the_checker() {
        let names: BTreeSet<&str> = ALL.iter().map(|check| check.name).collect();
        assert_eq!(names.len(), ALL.len());
        assert!(names.iter().all(|name| name.len() + ".vp".len() <= 64));
    }

    #[test]
    fn the_readme_has_the_table() {
        let readme = fs::read_to_string(folder().join("README.md")).unwrap();
        let rows: Vec<&str> = readme.lines().filter(|line| line.starts_with("| `")).collect();
        let expected: Vec<String> = ALL.iter().map(line).collect();
        assert_eq!(rows, expected, "the table of models/README.md should be:\n{}\n", expected.join("\n"));
    }

    #[test]
    fn an_edit_that_changes_nothing_is_an_error() {
        let text = "\tgrs = PUBKEY(rs)\n\tck_i, k_i = HKDF(a, ee_i, nil)\n\tck_r, k_r = HKDF(a, ee_r, nil)\n";
        assert!(Without("ee").apply(text).unwrap().contains("k_r = HKDF(a, nil, nil)"));
        assert!(Stolen("rs").apply(text).unwrap().contains("PUBKEY(rs)\n\tleaks rs\n"));
        for edit in [Without("se"), Stolen("is"), Replace("x ", "y "), StopAfter("x "), StopBefore("x ")] {
            assert!(edit.apply(text).is_err(), "{edit:?}");
        }
    }
}
