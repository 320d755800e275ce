"""The MRD header: parsed facts, filled gaps and refusals; and image meta."""

from xml.etree import ElementTree

import ismrmrd
import pytest

from protocols.errors import HeaderError
from protocols.header import Limit, encodings, header_text, parse_header
from protocols.meta import meta_text, parse_meta

LIMITS = """<kspace_encoding_step_1><minimum>0</minimum><maximum>159</maximum><center>64</center>
</kspace_encoding_step_1><average><minimum>0</minimum><maximum>1</maximum><center>0</center>
</average>"""
PARALLEL = """<parallelImaging><accelerationFactor>
<kspace_encoding_step_1>3</kspace_encoding_step_1>
<kspace_encoding_step_2>2</kspace_encoding_step_2></accelerationFactor></parallelImaging>"""


def space(matrix=(512, 192, 1), fov=(600, 225.5, 5)) -> str:
    x, y, z = matrix
    fx, fy, fz = fov
    return (
        f"<matrixSize><x>{x}</x><y>{y}</y><z>{z}</z></matrixSize>"
        f"<fieldOfView_mm><x>{fx}</x><y>{fy}</y><z>{fz}</z></fieldOfView_mm>"
    )


def encoding(encoded=None, recon=None, limits=LIMITS, parallel=PARALLEL) -> str:
    return f"""<encoding><encodedSpace>{encoded or space()}</encodedSpace>
        <reconSpace>{recon or space((256, 256, 1), (300, 300, 5))}</reconSpace>
        <encodingLimits>{limits}</encodingLimits><trajectory>cartesian</trajectory>
        {parallel}</encoding>"""


def document(*encoding_texts: str) -> str:
    return f"""<?xml version="1.0"?><ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
        <experimentalConditions><H1resonanceFrequency_Hz>123200000</H1resonanceFrequency_Hz>
        </experimentalConditions>{"".join(encoding_texts)}</ismrmrdHeader>"""


def test_facts_of_an_encoding():
    (facts,) = encodings(parse_header(document(encoding())))
    assert facts.encoded_matrix == (512, 192, 1) and facts.recon_matrix == (256, 256, 1)
    assert facts.encoded_fov == (600, 225.5, 5) and facts.recon_fov == (300, 300, 5)
    assert facts.acceleration == (3, 2)
    assert facts.limit("kspace_encoding_step_1", 192) == Limit(0, 159, 64)
    assert facts.limit("average") == Limit(0, 1, 0)


def test_where_the_header_is_silent():
    (facts,) = encodings(parse_header(document(encoding(limits="", parallel=""))))
    assert facts.acceleration == (1, 1)
    assert facts.limit("kspace_encoding_step_1", 192) == Limit(0, 191, 96)
    assert facts.limit("repetition") == Limit(0, 0, 0)


def test_several_encodings_keep_their_order():
    found = encodings(parse_header(document(encoding(), encoding(encoded=space((64, 32, 16))))))
    assert [facts.encoded_matrix for facts in found] == [(512, 192, 1), (64, 32, 16)]


def test_text_and_back():
    header = parse_header(document(encoding()))
    assert encodings(parse_header(header_text(header))) == encodings(header)


@pytest.mark.parametrize(
    "xml", ["", "hello", "<a/>", "<ismrmrdHeader", document(), '{"version": "1.1.0"}']
)
def test_what_is_no_header_is_refused(xml):
    with pytest.raises(HeaderError, match="expected"):
        parse_header(xml)


@pytest.mark.parametrize(
    "prefix",
    [
        '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;&b;">]>',
        '<!ENTITY b SYSTEM "file:///etc/passwd">',
    ],
)
def test_documents_with_entities_are_refused_unread(prefix):
    with pytest.raises(HeaderError, match="document type or entities"):
        parse_header(prefix + document(encoding()))


@pytest.mark.parametrize(
    ("encoded", "complaint"),
    [
        (space((0, 192, 1)), "positive matrixSize in encodedSpace of encoding 0"),
        (space(fov=(600, -1, 5)), "positive fieldOfView_mm in encodedSpace of encoding 0"),
        (space(fov=(600, 0, 5)), "positive fieldOfView_mm"),
    ],
)
def test_sizes_must_be_positive(encoded, complaint):
    with pytest.raises(HeaderError, match=complaint):
        encodings(parse_header(document(encoding(encoded=encoded))))


@pytest.mark.parametrize(
    ("value", "bad"),
    [
        ("<x>512</x>", "<x>5l2</x>"),
        ("<x>512</x>", "<x>70000</x>"),
        ("<x>512</x>", "<x>-5</x>"),
        ("<x>600.0</x>", "<x>NaN</x>"),
        ("<x>600.0</x>", "<x>INF</x>"),
        ("<x>600.0</x>", "<x>6OO</x>"),
        ("<kspace_encoding_step_2>2<", "<kspace_encoding_step_2>*<"),
        ("<kspace_encoding_step_2>2<", f"<kspace_encoding_step_2>{'9' * 400}<"),
    ],
)
def test_numbers_that_are_none_are_refused(value, bad):
    """Found by `python -m bench fuzz`: they came through as text, and broke whoever counted."""
    text = header_text(parse_header(document(encoding())))
    assert value in text
    with pytest.raises(HeaderError, match="encoding 0"):
        parse_header(text.replace(value, bad, 1))


def test_what_is_of_another_type_counts_as_missing_and_is_not_shown(capfd):
    """A weight in words must neither cost the images nor get into a log."""
    header = parse_header(document(encoding()))
    header.subjectInformation = ismrmrd.xsd.subjectInformationType(patientWeight_kg=61.5)
    header.sequenceParameters = ismrmrd.xsd.sequenceParametersType(TR=[500.5, 600.5])
    text = header_text(header).replace("61.5", "Jane Doe").replace("600.5", "Jane Doe")
    found = parse_header(text)
    assert found.subjectInformation.patientWeight_kg is None
    assert found.sequenceParameters.TR == [500.5]
    assert "Jane" not in "".join(capfd.readouterr())


def test_meta_reads_as_the_ismrmrd_package_reads_it():
    text = meta_text(
        {"DataRole": "Image", "History": ["BORESIDE", "R=2 & more"], "Slope": 0.125, "Flag": 1}
    )
    theirs = ismrmrd.Meta.deserialize(text)
    assert theirs["DataRole"] == "Image"
    assert theirs["History"] == ["BORESIDE", "R=2 & more"]
    assert parse_meta(text) == {
        "DataRole": "Image",
        "History": ["BORESIDE", "R=2 & more"],
        "Slope": "0.125",
        "Flag": "1",
    }


@pytest.mark.parametrize("text", ["", "  ", "<broken", "<!DOCTYPE a>", "not xml"])
def test_unreadable_meta_is_empty(text):
    assert parse_meta(text) == {}


def test_a_name_with_umlauts_survives_and_the_document_says_its_encoding():
    header = parse_header(document(encoding()))
    header.subjectInformation = ismrmrd.xsd.subjectInformationType(patientName="Müller^Zoë")
    text = header_text(header)
    assert 'encoding="utf-8"' in text.lower()
    # Parsers of bytes, as scanners have them, read what they are told.
    assert ElementTree.fromstring(text.encode()).find(".//{*}patientName").text == "Müller^Zoë"
    assert parse_header(text).subjectInformation.patientName == "Müller^Zoë"
