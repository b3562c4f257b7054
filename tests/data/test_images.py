"""Pictures of every kind and every mistake, against plain PIL and NumPy."""

import io
import random
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from jaxdl.data import images
from jaxdl.errors import UserError

WHAT = "pets/cats/1.jpg"
WHITE = 255


def saved(image, form="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format=form, **options)
    return buffer.getvalue()


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth(width, height, seed=0):
    return Image.fromarray(noise(6, 8, 3, seed=seed)).resize((width, height), Image.Resampling.BICUBIC)


def chunk(kind, content):
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png(width, height, depth, colour, rows, *chunks):
    """A PNG file written by hand, of a kind that Pillow doesn't save."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"".join([b"\x89PNG\r\n\x1a\n", header, *chunks, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")])


def refused(content, *says, size=8):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserError) as caught:
            images.decode(content, WHAT, size, 3)
    message = str(caught.value)
    assert "\n" not in message
    for part in (WHAT, *says):
        assert part in message, message


# What comes out


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("form", ["PNG", "WEBP", "JPEG"])
def test_a_square_of_the_wanted_size_is_the_picture_itself(form, channels):
    content = saved(Image.fromarray(noise(9, 9, 3)), form, **({"lossless": True} if form == "WEBP" else {}))
    expected = Image.open(io.BytesIO(content)).convert("L" if channels == 1 else "RGB")
    found = images.decode(content, WHAT, 9, channels)
    assert found.dtype == np.uint8 and found.shape == (9, 9, channels)
    np.testing.assert_array_equal(found, np.asarray(expected).reshape(9, 9, channels))


@pytest.mark.parametrize(("width", "height"), [(12, 5), (5, 12), (5, 6), (6, 5), (1, 7), (7, 1), (1, 1)])
def test_the_central_square_is_cut_out(width, height):
    pixels = noise(height, width, 3)
    side = min(width, height)
    top, left = (height - side) // 2, (width - side) // 2
    found = images.decode(saved(Image.fromarray(pixels)), WHAT, side, 3)
    np.testing.assert_array_equal(found, pixels[top : top + side, left : left + side])
    assert images.decode(saved(Image.fromarray(pixels)), WHAT, 16, 3).shape == (16, 16, 3)


def test_shrinking_averages_over_all_pixels():
    """Against the triangle filter computed here; a checkerboard turns grey, where no averaging keeps black or white."""
    pixels = noise(24, 24)
    weights = np.maximum(0, 1 - np.abs((np.arange(24) + 0.5)[None] - 4 * (np.arange(6) + 0.5)[:, None]) / 4)  # [6, 24]
    weights /= weights.sum(axis=1, keepdims=True)
    found = images.decode(saved(Image.fromarray(pixels)), WHAT, 6, 1)[..., 0]
    np.testing.assert_allclose(found, weights @ pixels @ weights.T, atol=1)
    board = np.uint8(255) * (np.indices((64, 64)).sum(axis=0) % 2).astype(np.uint8)
    assert np.ptp(images.decode(saved(Image.fromarray(board)), WHAT, 8, 1)) <= 1


def test_nothing_overshoots():
    edge = np.where(np.arange(40) < 20, 100, 150).astype(np.uint8)[None].repeat(40, axis=0)
    found = images.decode(saved(Image.fromarray(edge)), WHAT, 9, 1)
    assert found.min() == 100 and found.max() == 150


def test_large_jpegs_are_decoded_reduced_and_hardly_differ():
    content = saved(smooth(900, 700), "JPEG", quality=90)
    whole = Image.open(io.BytesIO(content)).crop((100, 0, 800, 700)).resize((64, 64), Image.Resampling.BILINEAR)
    difference = np.abs(images.decode(content, WHAT, 64, 3).astype(int) - np.asarray(whole))
    assert difference.mean() < 1 and difference.max() <= 6  # measured: 0.2 and 2


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_the_orientation_is_applied(form, orientation):
    upright = np.zeros((32, 32), np.uint8)
    upright[:16, :16], upright[:16, 16:] = 60, 120
    upright[16:, :16], upright[16:, 16:] = 180, 240
    stored = {  # how a camera stores it, by the EXIF standard: (row 0 is, column 0 is) of the upright picture
        1: upright,  # top, left
        2: upright[:, ::-1],  # top, right
        3: upright[::-1, ::-1],  # bottom, right
        4: upright[::-1],  # bottom, left
        5: upright.T,  # left, top
        6: upright.T[::-1],  # right, top
        7: upright.T[::-1, ::-1],  # right, bottom
        8: upright.T[:, ::-1],  # left, bottom
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"lossless": True} if form == "WEBP" else {}
    content = saved(Image.fromarray(np.ascontiguousarray(stored)).convert("RGB"), form, exif=exif, **lossless)
    np.testing.assert_allclose(images.decode(content, WHAT, 32, 1)[..., 0], upright, atol=3)


@pytest.mark.parametrize("exif", [b"Exif\0\0nonsense", b"Exif\0\0II*\0\x08\0\0\0\xff\xff" + b"\xff" * 40, b"Exif\0\0"])
def test_damaged_exif_turns_nothing_and_warns_of_nothing(exif):
    pixels = noise(8, 8, 3)
    content = saved(Image.fromarray(pixels), "JPEG", exif=exif, quality=95)
    plain = saved(Image.fromarray(pixels), "JPEG", quality=95)
    np.testing.assert_array_equal(images.decode(content, WHAT, 8, 3), images.decode(plain, WHAT, 8, 3))


def test_16_bits_are_scaled_not_clipped():
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    content = saved(Image.fromarray(values))
    assert Image.open(io.BytesIO(content)).mode in ("I;16", "I")
    expected = np.round(values / 257)
    np.testing.assert_array_equal(images.decode(content, WHAT, 8, 1)[..., 0], expected)
    np.testing.assert_array_equal(images.decode(content, WHAT, 8, 3), np.repeat(expected[..., None], 3, axis=2))
    exif = Image.Exif()
    exif[0x0112] = 3
    turned = images.decode(saved(Image.fromarray(values), exif=exif), WHAT, 8, 1)
    np.testing.assert_array_equal(turned[..., 0], expected[::-1, ::-1])


def test_16_bit_colours_are_scaled():
    values = np.random.default_rng(0).integers(0, 65536, (4, 4, 3))
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    np.testing.assert_allclose(images.decode(png(4, 4, 16, 2, rows), WHAT, 4, 3), values / 257, atol=1)


def test_16_bit_grey_with_a_transparent_shade():
    values = np.array([[1000, 1001], [2000, 1000]])
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    found = images.decode(png(2, 2, 16, 0, rows, chunk(b"tRNS", struct.pack(">H", 1000))), WHAT, 2, 1)
    assert found[..., 0].tolist() == [[WHITE, 4], [8, WHITE]]


def test_one_bit():
    bits = noise(8, 8) > 127
    found = images.decode(saved(Image.fromarray(bits)), WHAT, 8, 1)
    np.testing.assert_array_equal(found[..., 0], bits * 255)


def test_palette():
    colours = noise(4, 3)
    index = noise(8, 8) % 4
    image = Image.new("P", (8, 8))
    image.putdata(index.reshape(-1).tolist())
    image.putpalette(colours.tobytes())
    np.testing.assert_array_equal(images.decode(saved(image), WHAT, 8, 3), colours[index])
    alpha = bytes([0, 255, 100, 200])
    share = np.frombuffer(alpha, np.uint8)[index][..., None] / 255
    found = images.decode(saved(image, transparency=alpha), WHAT, 8, 3)
    np.testing.assert_allclose(found, share * colours[index] + (1 - share) * WHITE, atol=1)
    found = images.decode(saved(image, transparency=2), WHAT, 8, 3)
    np.testing.assert_array_equal(found, np.where(index[..., None] == 2, WHITE, colours[index]))


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_transparency_shows_white(mode, form):
    pixels = noise(8, 8, len(mode)) // 2 * 2
    lossless = {"lossless": True, "exact": True} if form == "WEBP" else {}
    content = saved(Image.fromarray(pixels), form, **lossless)
    share = pixels[..., -1:] / 255
    expected = share * pixels[..., :-1] + (1 - share) * WHITE
    np.testing.assert_allclose(images.decode(content, WHAT, 8, 3), np.broadcast_to(expected, (8, 8, 3)), atol=1)
    grey = expected @ ([1] if mode == "LA" else [0.299, 0.587, 0.114])
    np.testing.assert_allclose(images.decode(content, WHAT, 8, 1)[..., 0], grey, atol=2)


def test_a_transparent_colour_shows_white():
    pixels = noise(4, 4, 3)
    content = saved(Image.fromarray(pixels), transparency=tuple(pixels[1, 2].tolist()))
    pixels[1, 2] = WHITE
    np.testing.assert_array_equal(images.decode(content, WHAT, 4, 3), pixels)
    grey = noise(4, 4)
    content = saved(Image.fromarray(grey), transparency=int(grey[3, 3]))
    np.testing.assert_array_equal(images.decode(content, WHAT, 4, 1)[..., 0], np.where(grey == grey[3, 3], WHITE, grey))


def test_cmyk():
    inks = np.zeros((16, 16, 4), np.uint8)
    inks[:8, :, 0], inks[8:, :, 3] = 255, 128  # cyan above half black
    content = saved(Image.frombytes("CMYK", (16, 16), inks.tobytes()), "JPEG")
    assert Image.open(io.BytesIO(content)).mode == "CMYK"
    found = images.decode(content, WHAT, 16, 3)
    np.testing.assert_allclose(found[2, 2], [0, 255, 255], atol=4)
    np.testing.assert_allclose(found[13, 13], [127, 127, 127], atol=4)
    np.testing.assert_allclose(images.decode(content, WHAT, 16, 1)[13, 13], [127], atol=4)


def test_ycck():
    """The same four planes, said to be YCbCr and black: Adobe's marker with transform 2."""
    planes = np.zeros((16, 16, 4), np.uint8)
    content = bytearray(saved(Image.frombytes("CMYK", (16, 16), planes.tobytes()), "JPEG"))
    marker = content.index(b"Adobe")
    assert content[marker + 11] == 0
    content[marker + 11] = 2
    found = images.decode(bytes(content), WHAT, 16, 3)
    # YCbCr (255, 255, 255) is RGB (255, 121, 255), the complement of CMY, which Adobe stores inverted.
    np.testing.assert_allclose(found[8, 8], [0, 134, 0], atol=4)


def test_the_first_picture_of_an_mpo_file_is_the_picture():
    content = saved(smooth(32, 32), "MPO", save_all=True, append_images=[smooth(32, 32, seed=1)])
    assert Image.open(io.BytesIO(content)).n_frames == 2
    found = images.decode(content, WHAT, 32, 3)
    np.testing.assert_allclose(found, np.asarray(Image.open(io.BytesIO(content)).convert("RGB")), atol=1)


def test_threads_give_the_same():
    contents = [saved(smooth(200 + 3 * index, 150, seed=index), "JPEG") for index in range(24)]
    one = [images.decode(content, WHAT, 32, 3) for content in contents]
    with ThreadPoolExecutor(8) as pool:
        many = list(pool.map(lambda content: images.decode(content, WHAT, 32, 3), contents))
    np.testing.assert_array_equal(one, many)


def test_warnings_are_as_before():
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: images.decode(saved(smooth(20, 20), "JPEG"), WHAT, 8, 1), range(40)))
    assert list(warnings.filters) == before


# What is refused


@pytest.mark.parametrize(
    ("form", "name"),
    [("GIF", "GIF"), ("BMP", "BMP"), ("TIFF", "TIFF"), ("AVIF", "AVIF"), ("PPM", "no picture")],
)
def test_other_kinds_are_named(form, name):
    refused(saved(smooth(16, 16), form), name, "valid: JPEG, PNG, WebP")


@pytest.mark.parametrize("content", [b"hello", b"%PDF-1.4", b"<svg/>", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"\0" * 100])
def test_no_picture(content):
    refused(content, "no picture", "valid: JPEG, PNG, WebP")


def test_empty():
    refused(b"", "empty", "valid: JPEG, PNG, WebP")


def test_animations():
    frames = [smooth(16, 16, seed=seed) for seed in range(3)]
    for form in ("PNG", "WEBP"):
        content = saved(frames[0], form, save_all=True, append_images=frames[1:])
        refused(content, "animated (3 frames)", "one frame")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_truncated_anywhere(form):
    content = saved(Image.fromarray(noise(40, 40, 3)), form)
    for length in (3, 12, 20, 50, len(content) // 4, len(content) // 2, len(content) - 30):
        says = ["damaged"] if length >= 12 else []
        refused(content[:length], *says)


def test_garbled_bytes_are_refused_or_give_a_picture():
    """Whatever happens, it is a picture of the right shape or one line; nothing is warned of."""
    draw = random.Random(0)
    refusals = 0
    for form in ("JPEG", "PNG", "WEBP"):
        content = saved(smooth(40, 30), form)
        for _ in range(150):
            changed = bytearray(content)
            for _ in range(draw.choice((1, 4))):
                changed[draw.randrange(len(changed))] = draw.randrange(256)
            try:
                assert images.decode(bytes(changed), WHAT, 8, 3).shape == (8, 8, 3)
            except UserError as error:
                assert WHAT in str(error) and "\n" not in str(error)
                refusals += 1
    assert refusals > 100


@pytest.mark.parametrize(("width", "height"), [(20_000, 20_000), (10_000, 10_001), (2**31 - 1, 2**31 - 1), (1, 2**30)])
def test_too_many_pixels_are_refused_from_the_header(width, height):
    refused(png(width, height, 8, 0, b""), "valid: at most 100,000,000")
    if width < 65_536 > height:
        content = bytearray(saved(smooth(16, 16), "JPEG"))
        place = content.index(b"\xff\xc0")
        content[place + 5 : place + 9] = struct.pack(">HH", height, width)
        refused(bytes(content), "valid: at most 100,000,000")


def test_too_many_pixels_in_webp():
    content = bytearray(saved(smooth(16, 16).convert("RGBA"), "WEBP", exif=b"Exif\0\0II*\0"))
    assert content[12:16] == b"VP8X"
    content[24:30] = (19_999).to_bytes(3, "little") * 2
    refused(bytes(content))


def test_the_bound_itself(monkeypatch):
    content = saved(smooth(20, 10))
    monkeypatch.setattr(images, "PIXELS", 200)
    images.decode(content, WHAT, 4, 3)
    monkeypatch.setattr(images, "PIXELS", 199)
    refused(content, "20 x 10 pixels", "at most 199")


def test_a_bomb_in_a_comment_is_refused():
    packed = zlib.compress(bytes(80_000_000), 9)
    refused(png(4, 4, 8, 0, bytes(20), chunk(b"zTXt", b"Comment\0\0" + packed)), "damaged")
