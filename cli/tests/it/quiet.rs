//! Whom a node contacts that was told of nobody, in a network where everything that leaves it is seen.
#![cfg(target_os = "linux")]

use std::net::IpAddr;

use testing::{Namespace, Program};

use crate::program::{BINARY, file, folder};

/// Somebody beyond the network, who does not exist (RFC 5737): asking him shows that what leaves is seen.
const STRANGER: &str = "192.0.2.1";

#[test]
fn whatever_the_preset_nobody_is_contacted_who_is_not_named() {
    let test = "quiet::whatever_the_preset_nobody_is_contacted_who_is_not_named";
    let Some((here, beyond)) = Namespace::pair(test) else { return };
    here.ip("route add default via 10.77.0.2");
    let mut watch = beyond.command(std::env::current_exe().unwrap());
    watch.args(["--ignored", "--exact", "quiet::tells_what_passes", "--nocapture"]);
    let watch = Program::start(watch);
    let _ = watch.out.begins("watching");

    let serve = |preset: &str| {
        let host = if preset == "loopback" { "127.0.0.1" } else { "0.0.0.0" };
        let content =
            format!("preset = \"{preset}\"\nbind = [\"{host}:0\"]\n[serve]\nidentity = \"quiet-{preset}.json\"\n");
        let mut command = here.command(BINARY);
        command.arg("serve").arg("--config").arg(file(&format!("quiet-{preset}.toml"), &content));
        let program = Program::start(command);
        program.err.begins("* ready");
        program
    };
    let _running = ["public", "lan", "loopback", "server"].map(serve);
    // As long as this takes the others had time to contact whom they want.
    let mut doctor = here.command(BINARY);
    doctor.args(["doctor", "--timeout", "6", "--stun"]).arg(format!("{STRANGER}:3478"));
    let out = doctor.env("SETOWIRE_DATA_DIR", folder("quiet")).output().unwrap();
    assert!(out.status.success(), "{out:?}");

    assert_eq!(watch.out.told(&format!("to {STRANGER} ")), format!("to {STRANGER} 17 3478"));
    watch.out.look();
    for line in watch.out.past().iter().filter_map(|line| line.strip_prefix("to ")) {
        let [addr, _, port] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let addr: IpAddr = addr.parse().unwrap();
        // Those of multicast DNS are of somebody who was not asked to use it.
        assert!(addr.is_multicast() && port != "5353" || addr.to_string() == STRANGER, "{line}");
    }
}

#[test]
#[ignore = "a part of another test"]
fn tells_what_passes() {
    testing::watch();
}
