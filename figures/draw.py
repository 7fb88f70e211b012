"""Draw the concept drawings of the course: `python figures/draw.py` rewrites them all.

Each drawing is a function that returns its shapes, registered under its file's name.
The text alternative of a drawing is its `<desc>`. Lengths are in pixels at the natural
width. Letters are large, since a phone shows a drawing at about half its width.
"""

from collections.abc import Callable
from html import escape
from math import atan2, cos, pi, sin
from pathlib import Path

WIDTH = 720
BLUE, ORANGE, RED = "#5790fc", "#f89c20", "#e42536"
PURPLE, GREY, VIOLET = "#964a8b", "#9c9ca1", "#7a21dd"
INK = "#222222"
FONT = "Helvetica, Arial, 'Liberation Sans', sans-serif"

Shapes = list[str]
DRAWINGS: dict[str, tuple[int, str, str, Callable[[], Shapes]]] = {}


def drawing(name: str, height: int, title: str, desc: str
            ) -> Callable[[Callable[[], Shapes]], Callable[[], Shapes]]:
    """Return a decorator that registers a function as the drawing `name`.svg."""
    def register(draw: Callable[[], Shapes]) -> Callable[[], Shapes]:
        DRAWINGS[name] = (height, title, desc, draw)
        return draw
    return register


def svg(name: str) -> str:
    """Return the drawing as the text of an SVG file, on a white rounded ground."""
    height, title, desc, draw = DRAWINGS[name]
    shapes = "\n".join(draw())
    return (f'<svg xmlns="http://www.w3.org/2000/svg" role="img" '
            f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            f'font-family="{FONT}">\n'
            f"<title>{escape(title)}</title>\n<desc>{escape(desc)}</desc>\n"
            f'<rect width="{WIDTH}" height="{height}" rx="16" fill="white"/>\n'
            f"{shapes}\n</svg>\n")


def tint(colour: str) -> str:
    """Return the colour mixed with four parts of white: a ground for dark letters."""
    parts = [int(colour[i:i + 2], 16) for i in (1, 3, 5)]
    return "#" + "".join(f"{(part + 4 * 255) // 5:02x}" for part in parts)


def text(x: float, y: float, words: str, size: int = 20, anchor: str = "middle",
         colour: str = INK, bold: bool = False) -> str:
    """Return lines of text, centred vertically at `y`."""
    lines = words.split("\n")
    top = y + 0.35 * size - 0.6 * size * (len(lines) - 1)
    weight = ' font-weight="bold"' if bold else ""
    return "\n".join(
        f'<text x="{x:g}" y="{top + 1.2 * size * i:.1f}" font-size="{size}" '
        f'text-anchor="{anchor}" fill="{colour}"{weight}>{escape(line)}</text>'
        for i, line in enumerate(lines))


def box(x: float, y: float, width: float, height: float, words: str = "",
        colour: str = BLUE, size: int = 20, bold: bool = False, fill: str = "",
        dashed: bool = False) -> str:
    """Return a rounded box, tinted in its colour, with words in its middle."""
    dashes = ' stroke-dasharray="6 5"' if dashed else ""
    shape = (f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" '
             f'rx="7" fill="{fill or tint(colour)}" stroke="{colour}" '
             f'stroke-width="2"{dashes}/>')
    middle = (x + width / 2, y + height / 2)
    return shape + ("\n" + text(*middle, words, size, bold=bold) if words else "")


def line(*points: tuple[float, float], colour: str = INK, dashed: bool = False,
         width: float = 2.5) -> str:
    """Return a line through the points."""
    dashes = ' stroke-dasharray="7 6"' if dashed else ""
    path = " ".join(f"{x:g},{y:g}" for x, y in points)
    return (f'<polyline points="{path}" fill="none" stroke="{colour}" '
            f'stroke-width="{width:g}" stroke-linejoin="round"{dashes}/>')


def arrow(*points: tuple[float, float], colour: str = INK, dashed: bool = False,
          width: float = 2.5) -> str:
    """Return a line through the points with a head at the last one."""
    (x0, y0), (x, y) = points[-2:]
    angle = atan2(y - y0, x - x0)
    back = [(x - 13 * cos(angle + turn), y - 13 * sin(angle + turn))
            for turn in (pi / 7, -pi / 7)]
    corners = " ".join(f"{a:.1f},{b:.1f}" for a, b in [(x, y), *back])
    stop = (x - 9 * cos(angle), y - 9 * sin(angle))
    return (line(*points[:-1], stop, colour=colour, dashed=dashed, width=width)
            + f'\n<polygon points="{corners}" fill="{colour}"/>')


def plus(x: float, y: float) -> str:
    """Return a plus sign in a circle: the place where two tensors are added."""
    return (f'<circle cx="{x:g}" cy="{y:g}" r="15" fill="white" stroke="{INK}" '
            f'stroke-width="2.5"/>\n{line((x - 8, y), (x + 8, y))}\n'
            f"{line((x, y - 8), (x, y + 8))}")


def grid(x: float, y: float, rows: list[list[str]], colours: list[list[str]],
         cell: float) -> Shapes:
    """Return a matrix of cells with words in them."""
    return [box(x + j * cell, y + i * cell, cell - 4, cell - 4, word, colours[i][j], 19)
            for i, row in enumerate(rows) for j, word in enumerate(row)]


# ---------------------------------------------------------------- the drawings

@drawing("start_here_map", 1316, "The map of the course",
         "A path of seventeen lessons, 00 to 16, beside the model that they build: "
         "attention and the causal mask sit inside multi-head attention, that and "
         "the feed-forward network sit inside a block, and twelve blocks sit inside "
         "GPT-2. The tokenizer turns text into its ids. Generation and training use "
         "the whole model, published weights are loaded into it, it is measured, "
         "and looked into. It is made faster, trained by many processes, finetuned, "
         "and trained for rewards.")
def start_here_map() -> Shapes:
    lessons = [("00 Start here", "a model generates", GREY),
               ("01 Attention", "an average, by matching", BLUE),
               ("02 Causal masking", "never the future", BLUE),
               ("03 Multi-head", "several attentions at once", BLUE),
               ("04 Feed-forward", "the same net everywhere", ORANGE),
               ("05 Layer norm", "keep the scale: a block", PURPLE),
               ("06 Generation", "from logits to text", RED),
               ("07 GPT-2 model", "everything put together", VIOLET),
               ("08 Training", "it learns from text", RED),
               ("09 Tokenizer", "bytes, then merges", ORANGE),
               ("10 Real GPT-2", "OpenAI's weights, checked", VIOLET),
               ("11 Measuring", "which model is better?", RED),
               ("12 Looking inside", "which head does what?", BLUE),
               ("13 Speed", "operations and bytes", ORANGE),
               ("14 Scaling out", "many share a step", PURPLE),
               ("15 Finetuning", "it does what is asked", RED),
               ("16 Rewards", "more of what scored well", RED)]
    shapes = [line((160, 40), (160, 1260), colour=GREY, width=4)]
    for i, (name, idea, colour) in enumerate(lessons):
        y = 20 + 76 * i
        shapes += [box(20, y, 290, 64, colour=colour),
                   text(165, y + 20, name, 20, bold=True), text(165, y + 45, idea, 19)]
    shapes += [box(350, 20, 350, 540, colour=VIOLET, fill="white"),
               text(525, 44, "07 GPT2Model", bold=True),
               box(370, 66, 310, 42, "embeddings", VIOLET),
               box(370, 122, 310, 370, colour=PURPLE, fill="white"),
               text(525, 146, "05 TransformerBlock, × 12", bold=True),
               box(390, 168, 270, 40, "05 LayerNorm", PURPLE),
               box(390, 220, 270, 150, colour=BLUE, fill="white"),
               text(525, 243, "03 MultiHeadAttention", bold=True),
               box(410, 264, 230, 42, "01 attention", BLUE),
               box(410, 316, 230, 42, "02 causal_mask", BLUE),
               box(390, 382, 270, 40, "05 LayerNorm", PURPLE),
               box(390, 434, 270, 44, "04 FeedForward", ORANGE),
               box(370, 506, 310, 42, "norm, output head", VIOLET),
               arrow((430, 622), (430, 566)), arrow((620, 622), (620, 566)),
               box(350, 624, 165, 68, "06 generate\nsamples from it", RED, 19),
               box(535, 624, 165, 68, "08 train\nteaches it", RED, 19),
               box(350, 710, 165, 68, "10 load_gpt2\nloads weights", VIOLET, 19),
               box(535, 710, 165, 68, "11 perplexity\nmeasures it", RED, 19),
               box(350, 796, 350, 68, "09 Tokenizer\nturns text into ids, and back",
                   ORANGE, 19),
               box(350, 882, 350, 68, "12 attention_maps, logit_lens\nlook inside",
                   BLUE, 19),
               box(350, 1008, 350, 64, "13 quantize_int8\nmakes it faster", ORANGE, 19),
               box(350, 1084, 350, 64,
                   "14 distributed_step\ntrains it on many machines", PURPLE, 19),
               box(350, 1160, 350, 64, "15 add_lora\nteaches it a task", RED, 19),
               box(350, 1236, 350, 64, "16 policy_gradient_step\ntrains it on rewards",
                   RED, 19)]
    return shapes


@drawing("attention_average", 440, "Attention is an average",
         "One query is compared with three keys. The scaled scores ln 1, ln 2 and ln "
         "3 become the weights 1/6, 1/3 and 1/2. The values [6, 0], [0, 6] and [6, "
         "6], averaged with these weights, give the output [4, 5].")
def attention_average() -> Shapes:
    shapes = [box(20, 142, 110, 66, "query", ORANGE)]
    shapes += [text(x, 40, word, bold=True) for x, word in (
        (250, "keys"), (365, "scaled scores"), (520, "weights"), (645, "values"))]
    rows = [("ln 1", "1/6", 1, "[6, 0]"), ("ln 2", "1/3", 2, "[0, 6]"),
            ("ln 3", "1/2", 3, "[6, 6]")]
    for i, (score, weight, sixths, value) in enumerate(rows):
        y = 100 + 75 * i
        shapes += [arrow((130, 175), (198, y)),
                   box(200, y - 27, 100, 54, f"key {i}"), text(365, y, score, 22),
                   box(430, y - 20, 32 * sixths, 40, "", BLUE),
                   text(440 + 32 * sixths, y, weight, 22, "start"),
                   box(595, y - 27, 100, 54, value, PURPLE)]
    return shapes + [
        line((20, 312), (700, 312), colour=GREY, width=1.5),
        text(360, 345, "1/6 × [6, 0] + 1/3 × [0, 6] + 1/2 × [6, 6]", 22),
        box(250, 374, 220, 50, "output [4, 5]", ORANGE, 22, bold=True)]


@drawing("causal_masking_triangle", 470, "Who may attend to whom",
         "Left: four tokens, The cat sat down. Each row is a query; it may attend to "
         "its own key and to the earlier ones, a lower triangle, and the later keys "
         "are hidden. Right: only the last two tokens have queries; the triangle "
         "keeps its lower right corner, so the last query attends to all four keys.")
def causal_masking_triangle() -> Shapes:
    tokens = ["The", "cat", "sat", "down"]
    shapes = [text(190, 30, "4 queries, 4 keys", bold=True),
              text(545, 30, "2 new queries, 4 keys", bold=True)]
    for left, first in ((80, 0), (435, 2)):
        shapes += [text(left + 29 + 60 * j, 74, token, 19)
                   for j, token in enumerate(tokens)]
        for i in range(first, 4):
            y = 100 + 60 * i
            shapes.append(text(left - 10, y + 28, tokens[i], 19, "end"))
            shapes += [box(left + 60 * j, y, 56, 56, "" if j <= i else "×",
                           BLUE if j <= i else GREY, 24,
                           fill=BLUE if j <= i else "#f4f4f5") for j in range(4)]
    return shapes + [
        text(545, 152, "queries of earlier steps", 19, colour="#666666"),
        box(80, 372, 36, 36, fill=BLUE), text(128, 391, "may attend", anchor="start"),
        box(260, 372, 36, 36, "×", GREY, fill="#f4f4f5"),
        text(308, 391, "hidden: a later token", anchor="start"),
        text(80, 436, "Rows are queries, columns are keys.", anchor="start")]


@drawing("causal_masking_cache", 455, "The past never changes",
         "Four steps, one token each. At each step one new row of keys and values is "
         "computed, for the new token; those of the earlier tokens are kept from the "
         "steps before, because nothing later can change them.")
def causal_masking_cache() -> Shapes:
    tokens = ["The", "cat", "sat", "down"]
    shapes = [text(402, 30, "keys and values of", bold=True)]
    shapes += [text(205 + 132 * j, 66, token) for j, token in enumerate(tokens)]
    for step in range(4):
        y = 92 + 72 * step
        shapes.append(text(20, y + 28, f"step {step + 1}", anchor="start", bold=True))
        for j in range(4):
            word = "new" if j == step else "kept" if j < step else ""
            colour = ORANGE if j == step else BLUE if j < step else GREY
            shapes.append(box(145 + 132 * j, y, 120, 56, word, colour, bold=j == step,
                              fill="" if j <= step else "white", dashed=j > step))
            if j < step:
                shapes.append(arrow((205 + 132 * j, y - 16), (205 + 132 * j, y - 1),
                                    colour=BLUE))
    return shapes + [text(360, 408, "Each step computes one new key and value,\n"
                                    "and uses the kept ones.", 21)]


@drawing("multi_head_reshape", 500, "Splitting channels into heads, right and wrong",
         "A matrix of 2 tokens and 6 channels with the numbers 0 to 11. Right: head "
         "0 takes channels 0, 1, 2 of both tokens, head 1 channels 3, 4, 5 of both. "
         "Wrong: a view without the transpose gives head 0 all of token 0 and head 1 "
         "all of token 1, so no head sees both tokens.")
def multi_head_reshape() -> Shapes:
    def cells(numbers: list[int]) -> tuple[list[list[str]], list[list[str]]]:
        width = len(numbers) // 2
        rows = [numbers[:width], numbers[width:]]
        return ([[str(n) for n in row] for row in rows],
                [[BLUE if n % 6 < 3 else ORANGE for n in row] for row in rows])

    shapes = [text(360, 28, "2 tokens, 6 channels", bold=True)]
    shapes += grid(226, 50, *cells(list(range(12))), 46)
    shapes += [text(212, 71 + 46 * i, f"token {i}", 20, "end") for i in range(2)]
    shapes += [arrow((280, 152), (190, 200)), arrow((440, 152), (530, 200))]
    shapes += [text(184, 222, "right", 22, bold=True),
               text(184, 251, "view, then transpose"),
               text(536, 222, "wrong", 22, colour="#b01a28", bold=True),
               text(536, 251, "view alone")]
    for left, heads in ((26, ([0, 1, 2, 6, 7, 8], [3, 4, 5, 9, 10, 11])),
                        (378, ([0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]))):
        for h, numbers in enumerate(heads):
            x = left + 168 * h
            shapes.append(text(x + 71, 294, f"head {h}", bold=True))
            shapes += grid(x, 314, *cells(numbers), 48)
    return shapes + [line((360, 215), (360, 470), colour=GREY, width=1.5),
                     text(184, 450, "each head sees\nboth tokens"),
                     text(536, 450, "each head sees\none token only", colour="#b01a28")]


@drawing("feed_forward_positions", 480, "The same small network at every position",
         "Four tokens side by side. Each goes alone through the same network: from C "
         "channels to 4C, GELU, and back to C. No arrow leads from one position to "
         "another.")
def feed_forward_positions() -> Shapes:
    shapes = [text(20, y, word, 22, "start", bold=True)
              for y, word in ((97, "C"), (215, "4C"), (333, "C"))]
    for i, token in enumerate(["The", "cat", "sat", "down"]):
        x = 150 + 158 * i
        shapes += [text(x, 40, token, bold=True), box(x - 24, 74, 48, 46),
                   arrow((x, 120), (x, 190)), box(x - 70, 192, 140, 46, "GELU", ORANGE),
                   arrow((x, 238), (x, 308)), box(x - 24, 310, 48, 46)]
        if i:
            shapes.append(line((x - 79, 25), (x - 79, 385), colour=GREY, dashed=True))
    return shapes + [text(360, 418, "The same weights at every position,", 21),
                     text(360, 448, "and no arrow from one position to another.", 21)]


@drawing("layer_norm_backward", 330, "Forward pass and backward pass",
         "Four boxes in a row: x = 2, h = 6, y = 3, loss = 4. Arrows lead right, "
         "times w1 = 3, times w2 = 1/2, then (y - 1) squared. Below, red arrows lead "
         "back to the left with the derivatives: 1 for the loss itself, 4 for y, 2 for "
         "h, 6 for x; and below them those of the weights: 24 for w2, 4 for w1.")
def layer_norm_backward() -> Shapes:
    red = "#b01a28"
    shapes = [text(20, 28, "forward", bold=True, anchor="start"),
              text(20, 308, "backward", bold=True, anchor="start", colour=red)]
    for i, (words, back) in enumerate((("x = 2", "6"), ("h = 6", "2"), ("y = 3", "4"),
                                       ("loss 4", "1"))):
        x = 20 + 195 * i
        shapes += [box(x, 78, 95, 64, words, BLUE if i < 3 else ORANGE, 22),
                   text(x + 48, 196, back, 24, colour=red, bold=True)]
    for i, (words, factor, weight) in enumerate((
            ("× w₁ = 3", "× 3", "w₁: 2 · 2 = 4"), ("× w₂ = ½", "× ½", "w₂: 4 · 6 = 24"),
            ("(y − 1)²", "× 4", ""))):
        x = 115 + 195 * i
        shapes += [arrow((x, 110), (x + 97, 110)), text(x + 50, 56, words),
                   arrow((x + 107, 196), (x - 10, 196), colour=RED),
                   text(x + 50, 224, factor, colour=red),
                   text(x + 50, 268, weight, 21, colour=red, bold=True)]
    return shapes


@drawing("layer_norm_block", 640, "The block: add, don't replace",
         "Left, pre-norm: the residual stream runs straight from top to bottom. Two "
         "branches leave it, layer norm then attention and layer norm then feed-"
         "forward, and each is added back. Right, post-norm: the layer norms sit on "
         "the residual stream itself, so every block rescales it.")
def layer_norm_block() -> Shapes:
    shapes = [text(255, 30, "pre-norm (GPT-2)", 22, bold=True),
              text(105, 70, "x", 24), text(92, 345, "residual", 20, "end", "#2a5fc4"),
              arrow((105, 92), (105, 620), colour=BLUE, width=6)]
    for y, name, colour in ((120, "attention", ORANGE), (370, "feed-forward", RED)):
        shapes += [arrow((105, y), (290, y), (290, y + 22)),
                   box(190, y + 24, 200, 54, "layer norm", PURPLE),
                   arrow((290, y + 78), (290, y + 116)),
                   box(190, y + 118, 200, 54, name, colour),
                   arrow((290, y + 172), (290, y + 202), (123, y + 202)),
                   plus(105, y + 202)]
    shapes += [line((430, 20), (430, 620), colour=GREY, width=1.5),
               text(575, 30, "post-norm", 22, bold=True), text(500, 70, "x", 24),
               arrow((500, 92), (500, 620), colour=BLUE, width=6)]
    for y, name, colour in ((120, "attention", ORANGE), (370, "feed-\nforward", RED)):
        shapes += [arrow((500, y), (630, y), (630, y + 22)),
                   box(560, y + 24, 140, 58, name, colour),
                   arrow((630, y + 82), (630, y + 115), (518, y + 115)),
                   plus(500, y + 115), box(445, y + 148, 140, 54, "layer norm", PURPLE)]
    return shapes


@drawing("generation_loop", 400, "From probabilities to text, one token at a time",
         "A loop. The ids so far go into the model, which gives logits. They are "
         "divided by the temperature and cut to the top k; softmax makes "
         "probabilities; one id is sampled and appended to the ids, and the loop "
         "begins again.")
def generation_loop() -> Shapes:
    return [box(20, 40, 190, 92, "ids so far:\nThe cat sat", BLUE),
            box(265, 40, 190, 92, "model", VIOLET, 22, bold=True),
            box(510, 40, 190, 92, "logits\n(B, V)", ORANGE),
            arrow((210, 86), (262, 86)), arrow((455, 86), (507, 86)),
            arrow((605, 132), (605, 237)),
            box(510, 240, 190, 92, "÷ temperature,\nkeep the top k", PURPLE),
            box(265, 240, 190, 92, "softmax:\nprobabilities", PURPLE),
            box(20, 240, 190, 92, "sample one id:\non", RED),
            arrow((510, 286), (458, 286)), arrow((265, 286), (213, 286)),
            arrow((115, 240), (115, 135)),
            text(130, 188, "append", 21, "start", bold=True),
            text(360, 370, "Each turn of the loop generates one token.", 21)]


@drawing("gpt2_model_stack", 800, "The whole model, with its shapes and parameters",
         "Token ids (B, T) become vectors (B, T, C): token embedding plus position "
         "embedding. Twelve blocks, then a layer norm, keep that shape. The "
         "embedding matrix is used again, transposed, to give logits (B, T, V). GPT-2 "
         "small: 38,597,376 and 786,432 for the embeddings, 12 times 7,087,872 for the "
         "blocks, 1,536 for the last norm, 124,439,808 in all.")
def gpt2_model_stack() -> Shapes:
    shapes = [text(315, 28, "input_ids", 21, bold=True),
              arrow((220, 46), (220, 88)), arrow((420, 46), (420, 88)),
              box(120, 90, 190, 76, "tok_emb\n38,597,376", BLUE),
              box(330, 90, 180, 76, "pos_emb\n786,432", BLUE),
              arrow((215, 166), (215, 207), (299, 207)),
              arrow((420, 166), (420, 207), (333, 207)), plus(316, 207),
              arrow((316, 222), (316, 266))]
    shapes += [box(132 - d, 280 - d, 378, 130, "", PURPLE) for d in (-12, -6, 0)]
    shapes += [text(321, 322, "12 × TransformerBlock", 22, bold=True),
               text(321, 360, "7,087,872 each"),
               arrow((316, 424), (316, 458)),
               box(120, 460, 390, 56, "ln_final: 1,536", PURPLE),
               arrow((316, 516), (316, 558)),
               box(120, 560, 390, 76, "tok_emb, transposed\nthe same matrix: 0 new"),
               arrow((316, 636), (316, 680)), text(316, 702, "logits", 21, bold=True),
               line((120, 128), (60, 128), (60, 598), (120, 598), colour=BLUE,
                    dashed=True),
               text(50, 363, "tied", 20, "end", colour="#2a5fc4")]
    shapes += [text(545, y, words, 20, "start") for y, words in (
        (28, "(B, T)"), (207, "(B, T, C)"), (345, "(B, T, C)"), (488, "(B, T, C)"),
        (702, "(B, T, V)"))]
    return shapes + [box(120, 732, 390, 48, "124,439,808 parameters", VIOLET, 22,
                         bold=True)]


@drawing("training_loop", 560, "How a model learns",
         "Inputs are the tokens The cat sat on; targets are the same tokens shifted "
         "by one: cat sat on it. A loop: the batch goes through the model, which "
         "gives logits; these and the targets give the loss; the loss gives the "
         "gradient; a step moves the weights a little; then the next batch.")
def training_loop() -> Shapes:
    shapes = [text(20, 46, "inputs", anchor="start", bold=True),
              text(20, 118, "targets", anchor="start", bold=True)]
    for i, (token, target) in enumerate(zip("The cat sat on".split(),
                                            "cat sat on it".split(), strict=True)):
        x = 130 + 144 * i
        shapes += [box(x, 20, 130, 50, token, BLUE),
                   box(x, 92, 130, 50, target, ORANGE)]
        if i:
            shapes.append(line((x + 40, 70), (x - 54, 92), colour=GREY, dashed=True))
    return shapes + [
        text(360, 172, "the same ids, shifted by one", colour="#555555"),
        box(20, 210, 190, 92, "batch\n(B, T)", BLUE),
        box(265, 210, 190, 92, "model", VIOLET, 22, bold=True),
        box(510, 210, 190, 92, "logits\n(B, T, V)", ORANGE),
        arrow((210, 256), (262, 256)), arrow((455, 256), (507, 256)),
        arrow((605, 302), (605, 407)),
        box(510, 410, 190, 92, "loss: logits\nagainst targets", RED),
        box(265, 410, 190, 92, "gradient", PURPLE),
        box(20, 410, 190, 92, "step: move\nthe weights", PURPLE),
        arrow((510, 456), (458, 456)), arrow((265, 456), (213, 456)),
        arrow((115, 410), (115, 305)),
        text(130, 358, "next batch", 21, "start", bold=True),
        arrow((212, 420), (290, 305), colour=PURPLE, dashed=True),
        text(360, 535, "The step changes the weights a little; then again.", 21)]


@drawing("tokenizer_merges", 400, "Eleven bytes become five tokens",
         "Four rows of boxes. The first has the eleven bytes a a a b d a a a b a c. "
         "In the second, each a a has become one box, aa: nine tokens. In the third, "
         "each a b has become ab: seven tokens. In the fourth, each aa followed by ab "
         "has become aaab: five tokens, aaab d aaab a c.")
def tokenizer_merges() -> Shapes:
    rows = [("a a a b d a a a b a c", "11 bytes"),
            ("aa a b d aa a b a c", "256 = aa"),
            ("aa ab d aa ab a c", "257 = ab"),
            ("aaab d aaab a c", "258 = aa + ab")]
    colours = {"aa": BLUE, "ab": ORANGE, "aaab": PURPLE}
    shapes, cell = [], 46
    for row, (tokens, words) in enumerate(rows):
        x, y = 20, 30 + 94 * row
        for token in tokens.split():
            width = cell * len(token)
            shapes.append(box(x, y, width - 5, 56, token, colours.get(token, GREY), 22))
            x += width
        shapes.append(text(545, y + 28, words, 20, "start"))
        if row < 3:
            shapes.append(arrow((260, y + 60), (260, y + 90)))
    return shapes


@drawing("real_gpt2_transposed", 420, "Matrices are transposed in GPT-2's file",
         "Two rows. Above: in the file, c_attn is a wide matrix, inputs as rows and "
         "outputs as columns, used as x @ W; in nn.Linear it is transposed, a tall "
         "matrix, used as x @ W.T; if it is not transposed, it does not fit, and the "
         "program stops. Below: the matrix c_proj of the attention is square; it fits "
         "even if it is not transposed, and nothing stops.")
def real_gpt2_transposed() -> Shapes:
    return [text(130, 26, "in the file", 21, bold=True),
            text(400, 26, "in nn.Linear", 21, bold=True),
            text(600, 26, "not transposed?", 21, bold=True),
            box(30, 85, 200, 76, "c_attn\n(C, 3C)", BLUE),
            arrow((238, 123), (347, 123)), text(292, 104, ".T", 19),
            box(355, 50, 90, 150, "qkv\n(3C, C)", BLUE),
            text(600, 123, "does not fit:\nthe program stops", 20),
            box(85, 260, 90, 90, "c_proj\n(C, C)", RED),
            arrow((183, 305), (347, 305)), text(265, 286, ".T", 19),
            box(355, 260, 90, 90, "out\n(C, C)", RED),
            text(600, 305, "fits, and is wrong\nin 12 matrices", 20, bold=True),
            text(130, 385, "x @ W + b", 20), text(400, 385, "x @ W.T + b", 20)]


@drawing("measuring_stride", 300, "Overlapping windows: only what is new counts",
         "A text of fourteen tokens, and under it three windows of eight tokens, each "
         "three tokens further on. In the first window all tokens but the first count. "
         "In the second and the third only the last three do; the five before them are "
         "context.")
def measuring_stride() -> Shapes:
    cell, left = 40, 130
    shapes = [text(20, 40, "text", 20, "start", bold=True)]
    shapes += [box(left + cell * i, 20, cell - 5, 40, str(i), GREY, 18)
               for i in range(14)]
    for row, start in enumerate((0, 3, 6)):
        y = 92 + 56 * row
        shapes.append(text(20, y + 20, f"window {row + 1}", 20, "start"))
        for i in range(start, start + 8):
            new = i >= start + 5 or (row == 0 and i > 0)
            shapes.append(box(left + cell * i, y, cell - 5, 40, "",
                              BLUE if new else GREY))
    return [*shapes, box(left, 258, 30, 26, "", BLUE),
            text(172, 272, "counts", 20, "start"), box(300, 258, 30, 26, "", GREY),
            text(342, 272, "context only", 20, "start")]


@drawing("looking_inside_induction", 340, "Two heads that make an induction head",
         "The tokens A, B, C and again A. In layer 0 each token gets to know "
         "which token comes before it: B comes after A, C comes after B. In layer 1 "
         "the second A attends to the token that comes after an earlier A, finds B, "
         "and predicts B. Arrows show where information goes.")
def looking_inside_induction() -> Shapes:
    left, step, width = 116, 124, 112
    shapes = [text(20, y, words, 20, "start", bold=True)
              for y, words in ((292, "tokens"), (182, "layer 0"), (62, "layer 1"))]
    notes = ["", "B, after A", "C, after B", "A, after C"]
    for i, (token, note) in enumerate(zip("ABCA", notes, strict=True)):
        x = left + step * i
        shapes.append(box(x, 270, width, 44, token, GREY, 22, bold=True))
        if note:
            shapes += [box(x, 160, width, 44, note, RED if i == 1 else ORANGE, 20),
                       arrow((x + width / 2 - step + 30, 264), (x + 20, 210),
                             colour=ORANGE),
                       line((x + width / 2, 264), (x + width / 2, 210), colour=GREY,
                            dashed=True)]
    last, found = left + 3 * step + width / 2, left + step + width / 2
    return [*shapes, box(last - 62, 40, 124, 44, "after an A?", BLUE, 20),
            arrow((found, 156), (found, 62), (last - 66, 62), colour=BLUE),
            text(left + step + 130, 40, "finds B", 20),
            arrow((last + 62, 62), (last + 92, 62)),
            line((last, 154), (last, 92), colour=GREY, dashed=True),
            text(last + 101, 62, "next: B", 20, "start", bold=True)]


@drawing("scaling_out_collectives", 244, "An all-reduce in two halves",
         "Three ranks, each with gradients in three parts a, b and c. After a "
         "reduce-scatter, rank 0 has the sum of all parts a, rank 1 the sum of b, rank "
         "2 the sum of c. After an all-gather, every rank has all three sums. Both "
         "together are an all-reduce.")
def scaling_out_collectives() -> Shapes:
    cell, colours = 46, (BLUE, ORANGE, PURPLE)
    shapes = [text(289, 30, "reduce-scatter", 20), text(529, 30, "all-gather", 20)]
    for rank in range(3):
        y = 60 + 62 * rank
        shapes.append(text(16, y + 20, f"rank {rank}", 20, "start", bold=True))
        for part, colour in enumerate(colours):
            letter = "abc"[part]
            shapes.append(box(96 + cell * part, y, cell - 4, 40, letter + "₀₁₂"[rank],
                              GREY, 20))
            shapes.append(box(342 + cell * part, y, cell - 4, 40,
                              f"Σ{letter}" if part == rank else "",
                              colour if part == rank else GREY, 20, bold=True))
            shapes.append(box(578 + cell * part, y, cell - 4, 40, f"Σ{letter}", colour,
                              20, bold=True))
    return [*shapes, arrow((244, 142), (334, 142)), arrow((488, 142), (570, 142))]


if __name__ == "__main__":
    for name in DRAWINGS:
        (Path(__file__).parent / f"{name}.svg").write_text(svg(name), encoding="utf-8",
                                                           newline="\n")
