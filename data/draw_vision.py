"""Draws the images of vision.jsonl and prints the file, the same bytes everywhere: integers only, Python's standard
library only, and a compressor of its own, for zlib's output differs between versions.

    python3 data/draw_vision.py > data/vision.jsonl
"""

import base64
import json
import struct
import sys
import zlib

WHITE, BLACK, GRAY, LIGHT = (255, 255, 255), (20, 20, 20), (150, 150, 150), (225, 225, 225)
RED, GREEN, BLUE, YELLOW = (214, 40, 40), (42, 157, 80), (38, 92, 200), (245, 200, 40)
ORANGE, PURPLE = (240, 130, 30), (130, 60, 170)


# Drawing: a canvas is a list of rows of colours.


def canvas(width, height, color=WHITE):
    return [[color] * width for _ in range(height)]


def fill(image, color, inside):
    for y, row in enumerate(image):
        for x in range(len(row)):
            if inside(x, y):
                row[x] = color


def rectangle(image, left, top, right, bottom, color):
    fill(image, color, lambda x, y: left <= x < right and top <= y < bottom)


def circle(image, center_x, center_y, radius, color):
    fill(image, color, lambda x, y: (x - center_x) ** 2 + (y - center_y) ** 2 <= radius * radius)


def polygon(image, corners, color):
    """Convex, its corners clockwise (y grows downwards)."""
    edges = list(zip(corners, corners[1:] + corners[:1]))
    fill(
        image,
        color,
        lambda x, y: all((bx - ax) * (y - ay) - (by - ay) * (x - ax) >= 0 for (ax, ay), (bx, by) in edges),
    )


def line(image, start, end, width, color):
    (ax, ay), (bx, by) = start, end
    dx, dy = bx - ax, by - ay
    length = dx * dx + dy * dy

    def inside(x, y):
        along = (x - ax) * dx + (y - ay) * dy
        across = (x - ax) * dy - (y - ay) * dx
        return 0 <= along <= length and 4 * across * across <= width * width * length

    fill(image, color, inside)


# Five rows of three pixels, a digit a row (in binary, the left pixel is the highest bit).
GLYPHS = {
    "0": "75557", "1": "26227", "2": "71747", "3": "71717", "4": "55711", "5": "74717", "6": "74757", "7": "71111",
    "8": "75757", "9": "75717", "A": "75755", "E": "74647", "L": "44447", "O": "75557", "P": "75744",
    "R": "75765", "S": "74717", "T": "72222", "Z": "71247",
}


def text(image, left, top, letters, size, color=BLACK):
    for index, letter in enumerate(letters):
        for row, bits in enumerate(GLYPHS[letter]):
            for column in range(3):
                if int(bits) >> (2 - column) & 1:
                    x, y = left + (index * 4 + column) * size, top + row * size
                    rectangle(image, x, y, x + size, y + size, color)


# PNG: RGB with 8 bits a channel, one stored row after the other.


def png(image):
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b"".join(b"\0" + bytes(value for pixel in row for value in pixel) for row in image)
    header = struct.pack(">IIBBBBB", len(image[0]), len(image), 8, 2, 0, 0, 0)
    body = b"\x78\x01" + deflate(rows, 3 * len(image[0]) + 1) + struct.pack(">I", zlib.adler32(rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def deflate(data, stride):
    """One block with the fixed codes of RFC 1951: bytes, and repeats of the pixel before or the row above."""
    bits, count, out = 0, 0, bytearray()

    def put(value, width):
        nonlocal bits, count
        bits, count = bits | value << count, count + width
        while count >= 8:
            out.append(bits & 255)
            bits, count = bits >> 8, count - 8

    def put_code(value, width):
        put(int(f"{value:0{width}b}"[::-1], 2), width)

    def symbol(value):
        if value < 144:
            put_code(0x30 + value, 8)
        elif value < 256:
            put_code(0x190 + value - 144, 9)
        elif value < 280:
            put_code(value - 256, 7)
        else:
            put_code(0xC0 + value - 280, 8)

    def length(value):
        if value == 258:
            return symbol(285)
        value -= 3
        extra = max(0, value.bit_length() - 3)
        symbol(257 + 4 * extra + (value >> extra))
        put(value & (1 << extra) - 1, extra)

    def distance(value):
        value -= 1
        extra = max(0, value.bit_length() - 2)
        put_code(2 * extra + (value >> extra), 5)
        put(value & (1 << extra) - 1, extra)

    put(0b011, 3)
    at = 0
    while at < len(data):
        best, back = 0, 0
        for candidate in (3, stride):
            run = 0
            while run < 258 and at >= candidate and at + run < len(data) and data[at + run] == data[at + run - candidate]:
                run += 1
            if run > best:
                best, back = run, candidate
        if best >= 3:
            length(best)
            distance(back)
            at += best
        else:
            symbol(data[at])
            at += 1
    symbol(256)
    put(0, 7)
    return bytes(out)


# The images.


def red_circle():
    image = canvas(96, 96)
    circle(image, 48, 48, 32, RED)
    return image


def triangles_and_squares():
    image = canvas(128, 96, LIGHT)
    for left, top in ((10, 12), (52, 40), (94, 10)):
        polygon(image, [(left + 12, top), (left + 24, top + 24), (left, top + 24)], GREEN)
    rectangle(image, 12, 60, 36, 84, BLUE)
    rectangle(image, 92, 56, 116, 80, BLUE)
    return image


def bars():
    image = canvas(160, 112)
    line(image, (14, 96), (150, 96), 2, BLACK)
    for index, value in enumerate((24, 41, 68, 37)):
        left = 22 + index * 32
        rectangle(image, left, 96 - value, left + 20, 96, BLUE)
        text(image, left + 3, 96 - value - 13, str(value), 2)
        text(image, left + 3, 100, f"T{index + 1}", 2)
    return image


def falling_line():
    image = canvas(144, 96)
    line(image, (12, 8), (12, 84), 2, BLACK)
    line(image, (12, 84), (136, 84), 2, BLACK)
    points = [(16, 18), (40, 26), (64, 40), (88, 52), (112, 70), (132, 76)]
    for start, end in zip(points, points[1:]):
        line(image, start, end, 3, RED)
    for x, y in points:
        circle(image, x, y, 3, RED)
    return image


def traffic_light(lit):
    image = canvas(64, 128, LIGHT)
    rectangle(image, 14, 8, 50, 120, BLACK)
    for index, color in enumerate((RED, YELLOW, GREEN)):
        circle(image, 32, 28 + index * 36, 14, color if index == lit else (70, 70, 70))
    return image


def dice(*numbers):
    spots = {3: [(0, 0), (1, 1), (2, 2)], 5: [(0, 0), (2, 0), (1, 1), (0, 2), (2, 2)]}
    image = canvas(132, 72, GREEN)
    for index, number in enumerate(numbers):
        left = 8 + index * 60
        rectangle(image, left, 8, left + 56, 64, WHITE)
        for column, row in spots[number]:
            circle(image, left + 12 + column * 16, 20 + row * 16, 5, BLACK)
    return image


def table(with_cup):
    image = canvas(112, 80)
    rectangle(image, 8, 56, 104, 62, ORANGE)
    rectangle(image, 14, 62, 20, 78, ORANGE)
    rectangle(image, 92, 62, 98, 78, ORANGE)
    rectangle(image, 20, 36, 44, 56, BLUE)
    if with_cup:
        rectangle(image, 70, 40, 86, 56, RED)
        rectangle(image, 86, 44, 92, 52, RED)
    return image


def shape(sides):
    image = canvas(64, 64)
    if sides == 4:
        rectangle(image, 14, 14, 50, 50, PURPLE)
    elif sides == 6:
        polygon(image, [(20, 12), (44, 12), (56, 32), (44, 52), (20, 52), (8, 32)], PURPLE)
    else:
        circle(image, 32, 32, 22, PURPLE)
    return image


def clock():
    image = canvas(112, 112)
    circle(image, 56, 56, 50, BLACK)
    circle(image, 56, 56, 46, WHITE)
    for x, y in ((56, 14), (98, 56), (56, 98), (14, 56)):
        circle(image, x, y, 3, BLACK)
    line(image, (56, 56), (84, 56), 5, BLACK)
    line(image, (56, 56), (56, 20), 3, RED)
    return image


def pie():
    image = canvas(112, 112)
    circle(image, 56, 56, 46, BLUE)
    inside = lambda x, y: (x - 56) ** 2 + (y - 56) ** 2 <= 46 * 46
    fill(image, YELLOW, lambda x, y: inside(x, y) and x >= 56 and y <= 56)
    fill(image, GREEN, lambda x, y: inside(x, y) and x >= 56 and 56 < y and y - 56 <= x - 56)
    return image


def noughts_and_crosses():
    image = canvas(96, 96)
    for at in (32, 64):
        line(image, (at, 4), (at, 92), 3, BLACK)
        line(image, (4, at), (92, at), 3, BLACK)
    for column, row in ((0, 0), (1, 1), (2, 2)):
        x, y = 16 + 32 * column, 16 + 32 * row
        line(image, (x - 9, y - 9), (x + 9, y + 9), 4, RED)
        line(image, (x - 9, y + 9), (x + 9, y - 9), 4, RED)
    for column, row in ((1, 0), (0, 2)):
        x, y = 16 + 32 * column, 16 + 32 * row
        circle(image, x, y, 10, BLUE)
        circle(image, x, y, 6, WHITE)
    return image


def battery(percent):
    image = canvas(112, 56)
    rectangle(image, 8, 10, 96, 46, BLACK)
    rectangle(image, 96, 20, 102, 36, BLACK)
    rectangle(image, 12, 14, 92, 42, WHITE)
    rectangle(image, 12, 14, 12 + 80 * percent // 100, 42, GREEN if percent > 20 else RED)
    return image


def receipt():
    image = canvas(120, 112)
    for row, (name, price) in enumerate((("SAL", 3), ("TE", 2), ("ARROZ", 13))):
        text(image, 10, 10 + row * 22, name, 3)
        text(image, 110 - 12 * len(str(price)), 10 + row * 22, str(price), 3)
    line(image, (10, 78), (110, 78), 2, BLACK)
    text(image, 10, 86, "TOTAL", 3)
    text(image, 86, 86, "18", 3, RED)
    return image


def arrow():
    image = canvas(112, 64, LIGHT)
    rectangle(image, 40, 26, 104, 38, BLUE)
    polygon(image, [(40, 10), (40, 54), (8, 32)], BLUE)
    return image


# The examples.

VER = "Describes imágenes con frases cortas y exactas."
SEE = "You answer questions about images in one short sentence."


def picture(image, detail=None):
    url = "data:image/png;base64," + base64.b64encode(png(image)).decode()
    return {"type": "image_url", "image_url": {"url": url} | ({"detail": detail} if detail else {})}


def example(system, *turns):
    """Turns: what the user says (a text, or texts and images), what the assistant answers, and so on."""
    messages = [{"role": "system", "content": system}]
    for index, turn in enumerate(turns):
        if isinstance(turn, list):
            turn = [{"type": "text", "text": part} if isinstance(part, str) else part for part in turn]
        messages.append({"role": "assistant" if index % 2 else "user", "content": turn})
    return {"messages": messages}


EXAMPLES = [
    example(
        VER,
        ["¿Qué figura ves y de qué color es?", picture(red_circle(), "low")],
        "Un círculo rojo sobre fondo blanco.",
    ),
    example(
        SEE,
        ["How many triangles are there, and how many squares?", picture(triangles_and_squares())],
        "Three green triangles and two blue squares.",
    ),
    example(
        VER,
        ["¿En qué trimestre se vendió más y cuánto?", picture(bars(), "high")],
        "En el tercero: 68, frente a 41 del segundo.",
    ),
    example(
        SEE,
        [picture(falling_line()), "Does this line go up or down from left to right?"],
        "It falls all the way, from near the top to near the bottom.",
    ),
    example(VER, [picture(traffic_light(0), "low"), "¿Puedo pasar?"], "No: el semáforo está en rojo."),
    example(SEE, ["What do these two dice add up to?", picture(dice(5, 3))], "Five and three make eight."),
    example(
        VER,
        ["Antes:", picture(table(True)), "Después:", picture(table(False)), "¿Qué falta?"],
        "Falta la taza roja; la caja azul sigue sobre la mesa.",
    ),
    example(
        SEE,
        ["One of these shapes has no corners. Which?", picture(shape(4)), picture(shape(6)), picture(shape(0))],
        "The last one: it is a circle, after a square and a hexagon.",
    ),
    example(VER, ["¿Qué hora marca este reloj?", picture(clock(), "auto")], "Las tres en punto."),
    example(
        SEE,
        ["Which slice of the pie is the largest, and what part of the whole is it?", picture(pie(), "high")],
        "The blue one: it covers five eighths.",
    ),
    example(
        VER,
        ["¿Quién ha ganado esta partida de tres en raya?", picture(noughts_and_crosses())],
        "Las cruces, con la diagonal de arriba a la izquierda hacia abajo.",
        "¿Y cuántos círculos hay?",
        "Dos: uno arriba en el centro y otro abajo a la izquierda.",
    ),
    example(
        SEE,
        ["Is there enough charge for a long trip?", picture(battery(15), "low")],
        "No, the battery is nearly empty and shown in red.",
        ["And now?", picture(battery(90), "low")],
        "Yes, it is almost full.",
    ),
    example(
        "Lees tiques y respondes solo con JSON.",
        [picture(receipt(), "high"), "Artículos y total."],
        '{"articulos": {"sal": 3, "te": 2, "arroz": 13}, "total": 18}',
    ),
    example(SEE, [picture(arrow())], "A blue arrow that points to the left."),
    example(VER, "¿Cuántos lados tiene un hexágono?", "Seis."),
]

sys.stdout.reconfigure(encoding="utf-8", newline="\n")
for record in EXAMPLES:
    print(json.dumps(record, ensure_ascii=False))
