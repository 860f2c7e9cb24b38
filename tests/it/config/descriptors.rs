//! `descriptors:` names files, and what is wrong with one is told where it is named.

use meshbus::config::Config;
use meshbus::transport::TRANSPORTS;
use prost::Message as _;
use prost_reflect::prost_types::{DescriptorProto, FileDescriptorProto, FileDescriptorSet};
use serde_json::json;

const THING: &str = "type.googleapis.com/example.v1.Thing";

fn set() -> Vec<u8> {
    let message = DescriptorProto { name: Some("Thing".to_owned()), ..DescriptorProto::default() };
    let file = FileDescriptorProto {
        name: Some("thing.proto".to_owned()),
        package: Some("example.v1".to_owned()),
        syntax: Some("proto3".to_owned()),
        message_type: vec![message],
        ..FileDescriptorProto::default()
    };
    FileDescriptorSet { file: vec![file] }.encode_to_vec()
}

#[test]
fn files_are_found_beside_the_configuration() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bus.yaml");
    std::fs::write(directory.path().join("thing.binpb"), set()).unwrap();
    std::fs::write(&path, "descriptors: [thing.binpb]\n").unwrap();
    let config = Config::load(std::slice::from_ref(&path), &|_| None, TRANSPORTS).unwrap();
    let known = config.descriptors.unwrap();
    assert!(known.read(THING, &json!({})).unwrap().is_empty());
    assert_eq!(known.knows("type.googleapis.com/envoy.config.cluster.v3.Cluster"), cfg!(feature = "envoy"));
    let none =
        Config::read(&[("bus.yaml".to_owned(), "name: x\n".to_owned())], &|_| None, TRANSPORTS).unwrap();
    assert!(none.descriptors.is_none());
}

#[test]
fn what_is_wrong_with_a_file_is_told_where_it_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("bus.yaml");
    std::fs::write(directory.path().join("thing.binpb"), set()).unwrap();
    std::fs::write(directory.path().join("text.binpb"), "syntax = \"proto3\";").unwrap();
    for (named, line, column, expected) in [
        ("[thing.binpb, nowhere.binpb]", 1, 28, "nowhere.binpb: No such file"),
        ("\n- thing.binpb\n- text.binpb", 3, 3, "cannot be read: "),
        ("[{file: thing.binpb}]", 1, 15, "expected the path of a file"),
        ("thing.binpb", 1, 14, "expected a list of files"),
    ] {
        std::fs::write(&path, format!("descriptors: {named}\n")).unwrap();
        let errors = Config::load(std::slice::from_ref(&path), &|_| None, TRANSPORTS).unwrap_err();
        assert_eq!(errors.len(), 1, "{errors:?}");
        let error = &errors[0];
        assert!(error.reason.contains(expected), "{error:?}");
        assert_eq!((error.line, error.column), (line, column), "{error:?}");
    }
}
