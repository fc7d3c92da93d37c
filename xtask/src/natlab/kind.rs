//! The kinds of NAT, as rules of nftables.

use std::fmt;

/// What a NAT does with UDP. Words of RFC 4787: mapping and filtering are endpoint-independent (EIM, EIF), address-dependent (ADF), or
/// address- and port-dependent (APDM, APDF).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// No NAT and no filter: a router.
    None,
    /// EIM, EIF, ports kept.
    FullCone,
    /// EIM, ADF, ports kept.
    AddrCone,
    /// EIM, APDF, ports kept.
    PortCone,
    /// The same without a filter of what is for the NAT itself: a probe that comes before the first packet to its sender makes the NAT
    /// take a flow of its own for it, and the packet then leaves by another port.
    PortClash,
    /// APDM, APDF, ports counted up.
    SymSeq,
    /// APDM, APDF, random ports.
    SymRand,
    /// UDP is dropped on the way out; TCP goes out by any port.
    UdpBlock,
}

impl Kind {
    /// In the order of the tables.
    pub(super) const ALL: [Self; 8] = [
        Self::None,
        Self::FullCone,
        Self::AddrCone,
        Self::PortCone,
        Self::PortClash,
        Self::SymSeq,
        Self::SymRand,
        Self::UdpBlock,
    ];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::FullCone => "fullcone",
            Self::AddrCone => "addrcone",
            Self::PortCone => "portcone",
            Self::PortClash => "portclash",
            Self::SymSeq => "symseq",
            Self::SymRand => "symrand",
            Self::UdpBlock => "udpblock",
        }
    }

    /// Mapping, filtering and ports, as the check of this laboratory has to find them.
    pub(super) const fn verdict(self) -> &'static str {
        match self {
            Self::None | Self::FullCone => "EIM EIF kept",
            Self::AddrCone => "EIM ADF kept",
            Self::PortCone | Self::PortClash => "EIM APDF kept",
            Self::SymSeq => "APDM APDF counted",
            Self::SymRand => "APDM APDF random",
            Self::UdpBlock => "blocked",
        }
    }

    /// Whether one address and port stands for a socket, whoever it sends to, and whatever was sent to it before.
    pub(super) const fn is_steady(self) -> bool {
        matches!(self, Self::None | Self::FullCone | Self::AddrCone | Self::PortCone)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What else a NAT does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Manner {
    /// Of 10,000 packets that pass, those that it drops.
    pub(super) loss: u32,
    /// Seconds after which a mapping that nothing uses is forgotten.
    pub(super) lifetime: u32,
}

impl Default for Manner {
    fn default() -> Self {
        Self { loss: 0, lifetime: 120 }
    }
}

/// The rules of a NAT whose address is `wan` on its interface of that name, and whose other interface is `lan`.
pub(super) fn rules(kind: Kind, wan: &str, manner: Manner) -> String {
    let Manner { loss, lifetime } = manner;
    let drop = if loss > 0 { format!("numgen random mod 10000 < {loss} drop") } else { String::new() };
    let blocked = if kind == Kind::UdpBlock { "iifname lan meta l4proto udp drop" } else { "" };
    let mut rules = format!(
        "flush ruleset
table inet lab {{
  chain loss {{ type filter hook forward priority -20; {drop}
  }}
  chain block {{ type filter hook forward priority -10; {blocked}
  }}
}}
table ip6 guard {{
  chain pass {{ type filter hook forward priority 0; iifname wan ct state new drop
  }}
}}
"
    );
    if kind == Kind::None {
        return rules;
    }
    let map = format!("update @ports {{ udp sport timeout {lifetime}s : ip saddr . udp sport }}");
    let contact = format!("update @contacts {{ ip daddr . udp sport timeout {lifetime}s }}");
    let (learn, back) = match kind {
        Kind::FullCone => {
            (format!("oifname wan meta l4proto udp {map}"), "iifname wan dnat ip to udp dport map @ports")
        }
        Kind::AddrCone => (
            format!("oifname wan meta l4proto udp {map}\n    oifname wan meta l4proto udp {contact}"),
            "iifname wan ip saddr . udp dport @contacts dnat ip to udp dport map @ports",
        ),
        _ => (String::new(), ""),
    };
    let translate = match kind {
        Kind::SymRand => format!("snat to {wan} random,fully-random"),
        // A map, since nft 1.0 writes a port that is computed in the wrong byte order. TCP keeps its ports.
        Kind::SymSeq => {
            let ports: Vec<String> = (0..4000).map(|n| format!("{n} : {}", 40000 + n)).collect();
            format!(
                "meta l4proto udp snat to {wan} : numgen inc mod 4000 map {{ {} }}\n    oifname wan snat to {wan}",
                ports.join(", ")
            )
        }
        _ => format!("snat to {wan}"),
    };
    // What comes for the NAT itself must not become a flow that the kernel remembers, but with the clashing kind.
    let input = if kind == Kind::PortClash { "" } else { "iifname wan meta l4proto udp drop" };
    rules.push_str(&format!(
        "table ip nat {{
  map ports {{ type inet_service : ipv4_addr . inet_service; flags dynamic,timeout; size 65535; }}
  set contacts {{ type ipv4_addr . inet_service; flags dynamic,timeout; size 65535; }}
  chain learn {{ type filter hook postrouting priority 90;
    {learn}
  }}
  chain before {{ type nat hook prerouting priority -100; {back}
  }}
  chain after {{ type nat hook postrouting priority 100; oifname wan {translate}
  }}
  chain inside {{ type filter hook input priority 0; {input}
  }}
  chain pass {{ type filter hook forward priority 0;
    ct status dnat accept
    iifname wan ct state new drop
  }}
}}
"
    ));
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_router_translates_nothing_and_all_others_do() {
        for kind in Kind::ALL {
            let rules = rules(kind, "192.0.2.10", Manner { loss: 513, lifetime: 20 });
            assert!(rules.contains("numgen random mod 10000 < 513 drop"));
            assert_eq!(rules.contains("snat to 192.0.2.10"), kind != Kind::None, "{kind}");
            assert_eq!(rules.matches('{').count(), rules.matches('}').count());
        }
        assert!(!rules(Kind::PortCone, "192.0.2.10", Manner::default()).contains("numgen"));
    }
}
