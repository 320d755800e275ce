"""Properties of a Gadgetron's external node: both spellings, and what is wrong with them."""

import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from agent.gadgetron_config import PropertyError, parse_properties

EMPTY_CONFIG = '<?xml version="1.0"?>\n<configuration />\n'


@pytest.mark.parametrize(
    "config",
    [
        '<?xml version="1.0"?>\n<configuration><property name="method" value="grappa"/>'
        '<property name="maps" value="g-factor, snr"/></configuration>\n',
        "<configuration><property><name>method</name><value>grappa</value></property>"
        "<property><name>maps</name><value>g-factor snr</value></property></configuration>",
        '<external><connect port="18000"/><configuration><property name="method" value="grappa"/>'
        '<property name="maps" value="g-factor,snr"/></configuration></external>',
    ],
    ids=["attributes", "elements", "whole external node"],
)
def test_properties_are_read(config):
    properties = parse_properties(config, "images")
    assert (properties.method, properties.maps) == ("grappa", ("g-factor", "snr"))
    assert properties.target == "images"


@pytest.mark.parametrize("config", ["", '<?xml version="1.0"?>\n', EMPTY_CONFIG])
def test_an_external_node_without_configuration_has_no_properties(config):
    assert parse_properties(config, "recon").model_dump(exclude_defaults=True) == {}


@pytest.mark.parametrize(
    ("config", "named"),
    [
        ("<configuration><property/></configuration>", "<property"),
        ('<configuration><property name="pixel_type" value="int16"/></configuration>', "int16"),
        ("<configuration>", "XML"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><configuration>&a;</configuration>', "document type"),
    ],
)
def test_a_wrong_configuration_says_what_is_wrong(config, named):
    with pytest.raises(PropertyError, match=re.escape(named)):
        parse_properties(config, "recon")


SHIPPED = sorted((Path(__file__).parents[2] / "deploy" / "gadgetron").glob("*.xml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_the_shipped_configurations_ask_for_what_there_is(path):
    (external,) = ElementTree.parse(path).iter("external")
    sent = ElementTree.tostring(external.find("configuration"), "unicode")
    execute = external.find("execute")
    if execute is not None:
        assert (execute.get("name"), execute.get("type")) == ("agent.gadgetron", "python")
        assert parse_properties(sent, execute.get("target")).target == execute.get("target")
    else:
        assert int(external.find("connect").get("port")) == 18000
        assert 'name="target"' in sent
        parse_properties(sent, "recon")


def test_there_is_a_configuration_for_each_way_in():
    actions = {
        child.tag for path in SHIPPED for child in next(ElementTree.parse(path).iter("external"))
    }
    assert {"execute", "connect"} <= actions
