//! Which files are plugins, and what is said of those that are not.

use super::*;
use crate::guests;

#[test]
fn a_component_of_either_world_is_taken() {
    for plugin in [guests::guest(guests::PASS), guests::packed()] {
        let verdicts = ask(&mut *Rig::new(&plugin, "").filter(), &[event(1)]);
        assert!(matches!(verdicts.as_slice(), [Verdict::Pass]), "{verdicts:?}");
    }
}

#[test]
fn a_plugin_that_traps_on_nothing_is_not_taken() {
    let refused = Rig::new(&guests::dummy(guests::TYPED), "").refused();
    assert!(refused.contains("trapped: unreachable"), "{refused}");
}

#[test]
fn what_is_no_component_is_named() {
    let core = wat::parse_str(guests::module("", "(i32.const 0)", "", "")).unwrap();
    for (plugin, why) in [
        (&b"#!/bin/sh"[..], "is no Wasm file"),
        (&core, "is a core module"),
        (b"\0asm\x0d\0\x01\0\x07", "is no component that runs here"),
        (b"", "is no Wasm file"),
    ] {
        let refused = Rig::new(plugin, "").refused();
        assert!(refused.contains(why) && refused.contains("plugin.wasm"), "{refused}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let rig = Rig::new(b"", "");
    std::fs::remove_file(rig.path()).unwrap();
    assert!(rig.refused().contains("cannot be read"), "{}", rig.refused());
}

#[test]
fn another_version_of_the_world_is_named_with_the_one_expected() {
    let text = guests::wit_text().replace("filter@0.1.0", "filter@0.2.0");
    let wat = guests::module("", "(i32.const 0)", "", "").replace("filter@0.1.0", "filter@0.2.0");
    let refused = Rig::new(&guests::component_of(&text, guests::TYPED, &wat), "").refused();
    assert!(refused.contains("@0.2.0") && refused.contains("meshbus:filter@0.1.x"), "{refused}");
}

#[test]
fn a_later_patch_version_runs() {
    let text = guests::wit_text().replace("filter@0.1.0", "filter@0.1.7");
    let wat = guests::module("", "(i32.const 0)", "", "").replace("filter@0.1.0", "filter@0.1.7");
    Rig::new(&guests::component_of(&text, guests::TYPED, &wat), "").filter();
}

#[test]
fn a_type_that_changed_within_the_version_is_refused() {
    let text = guests::wit_text().replace("retry(u32),", "");
    let wat = guests::module("", "(i32.const 0)", "", "");
    let refused = Rig::new(&guests::component_of(&text, guests::TYPED, &wat), "").refused();
    assert!(refused.contains("expected variant of 5 cases, found 4 cases"), "{refused}");
}

#[test]
fn an_import_that_is_not_granted_is_named() {
    let text = guests::wit_text()
        + "interface kv { get: func(key: string) -> string; }
           world wants-state { include filter-plugin; import kv; }";
    let imports = r#"(import "meshbus:filter/kv@0.1.0" "get" (func $get (param i32 i32 i32)))"#;
    let wat = guests::module("", "(i32.const 0)", imports, "");
    let refused = Rig::new(&guests::component_of(&text, "wants-state", &wat), "").refused();
    assert!(
        refused.contains("imports meshbus:filter/kv@0.1.0, which filters are not granted"),
        "{refused}"
    );
}

#[test]
fn what_is_no_filter_is_told_what_was_expected() {
    let text = "package a:b@1.0.0; interface c { d: func(); } world w { export c; }";
    let plugin = guests::component_of(text, "w", r#"(module (func (export "a:b/c@1.0.0#d")))"#);
    let refused = Rig::new(&plugin, "").refused();
    assert!(refused.contains("exports a:b/c@1.0.0; expected meshbus:filter/filter@0.1.x"), "{refused}");
}

#[test]
fn a_plugin_that_refuses_its_configuration_says_why() {
    let refused = Rig::new(&guests::refusing("no fields are named"), "config: {fields: []}\n").refused();
    assert!(refused.contains("does not take its `config:`: no fields are named"), "{refused}");
}

#[test]
fn a_digest_that_is_not_the_files_is_named() {
    let rig = Rig::new(&guests::guest(guests::PASS), &format!("digest: 'sha256:{}'\n", "0".repeat(64)));
    assert!(rig.refused().contains("its digest is sha256:"), "{}", rig.refused());
}

#[test]
fn more_memory_at_the_start_than_it_may_have_is_refused() {
    let refused = Rig::new(&guests::guest(guests::PASS), "memory: 64KiB\n").refused();
    assert!(refused.contains("needs more memory than its limit of 65536 bytes"), "{refused}");
}

#[test]
fn settings_out_of_range_are_named_with_their_place() {
    for (settings, expected) in [
        ("memory: 1B", "memory"),
        ("deadline: 0s", "deadline"),
        ("digest: abc", "sha256:"),
        ("attributes: [Type]", "attributes[0]"),
        ("on_fault: maybe", "on_fault"),
        ("memori: 1MiB", "memory"),
    ] {
        let section = Section::from_yaml("m.yaml", &format!("path: p.wasm\n{settings}\n")).unwrap();
        let error = Wasm.read(&section).expect_err(settings).to_string();
        assert!(error.contains(expected) && error.contains("m.yaml:2"), "{error}");
    }
}

#[test]
fn a_compiled_plugin_is_kept_and_found_again_and_a_broken_one_is_not_believed() {
    use std::os::unix::fs::PermissionsExt;
    let cache = tempfile::tempdir().unwrap();
    std::fs::set_permissions(cache.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
    let settings = format!("cache: {}\n", cache.path().display());
    let entries =
        || std::fs::read_dir(cache.path()).unwrap().map(|entry| entry.unwrap().path()).collect::<Vec<_>>();
    let plugin = guests::guest(guests::PASS);
    Rig::new(&plugin, &settings).filter();
    let [entry] = &entries()[..] else { panic!("{:?}", entries()) };
    let (whole, written) =
        (std::fs::read(entry).unwrap(), std::fs::metadata(entry).unwrap().modified().unwrap());
    Rig::new(&plugin, &settings).filter();
    assert_eq!(std::fs::metadata(entry).unwrap().modified().unwrap(), written, "compiled again");
    let mut flipped = whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for broken in [&b""[..], &whole[..whole.len() / 2], &flipped] {
        std::fs::write(entry, broken).unwrap();
        Rig::new(&plugin, &settings).filter();
        assert_eq!(std::fs::read(entry).unwrap(), whole, "not mended");
    }
}

#[test]
fn a_cache_that_others_may_write_to_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let cache = tempfile::tempdir().unwrap();
    std::fs::set_permissions(cache.path(), std::fs::Permissions::from_mode(0o770)).unwrap();
    Rig::new(&guests::guest(guests::PASS), &format!("cache: {}\n", cache.path().display())).filter();
    assert_eq!(std::fs::read_dir(cache.path()).unwrap().count(), 0);
}
