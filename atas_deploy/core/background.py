"""The automatic background: generic words that compete as class 0.

`TABLE` lists each background word with the words that cover it: its synonyms, what it is a kind of
and kinds of it. A word leaves the background when the user asks for it or for a word that covers
it, so that `--classes animal` does not lose its dogs to the background.
"""

from collections.abc import Iterable

# word: words that cover it (synonyms, hypernyms, hyponyms), singular, lower case
TABLE: dict[str, str] = {
    # scenes and stuff
    "sky": "cloud, heaven, air, background",
    "tree": "plant, vegetation, greenery, foliage, forest, wood, palm, bush, hedge, leaf, nature",
    "bush": "plant, vegetation, greenery, foliage, shrub, hedge, tree, leaf, nature",
    "grass": "lawn, plant, vegetation, greenery, field, meadow, pasture, turf, ground, nature",
    "flower": "plant, vegetation, blossom, bloom, rose, tulip, lotus, petal, bouquet, nature",
    "mountain": "hill, rock, cliff, peak, landscape, nature, snow",
    "rock": "stone, boulder, cliff, mountain, ground, gravel",
    "sand": "beach, desert, ground, dune, soil, dirt, shore",
    "dirt": "ground, soil, earth, mud, path, field, sand, gravel, land, terrain",
    "water": "sea, ocean, river, lake, pool, pond, wave, stream, waterfall, fountain, liquid",
    "snow": "ice, ground, winter, ski slope, mountain",
    "road": "street, pavement, asphalt, path, highway, lane, track, ground, concrete, driveway",
    "sidewalk": "pavement, path, walkway, footpath, concrete, ground, street, road, floor, kerb",
    "building": "house, skyscraper, tower, architecture, structure, temple, church, castle, city, "
    "home, shop, store, office, hotel, palace, roof, facade",
    "bridge": "structure, architecture, overpass",
    "wall": "brick, building, interior, room, tile",
    "fence": "railing, barrier, gate, wall",
    "window": "glass, building, house, pane",
    "door": "gate, entrance, building, house",
    "floor": "ground, tile, carpet, rug, interior, room, wood",
    "ceiling": "roof, interior, room",
    # living things
    # not "person": small models give it everything that they have no word for
    "man": "person, people, human, boy, guy, adult, pedestrian, crowd, face, hand, head, hair, "
    "skin, body, player, rider, worker, soldier, skier, surfer, cyclist, dancer, clothes, shirt, "
    "clothing, jacket, animal, mammal",
    "woman": "person, people, human, girl, lady, adult, pedestrian, crowd, face, hand, head, hair, "
    "skin, body, player, rider, worker, skier, surfer, cyclist, dancer, clothes, clothing, shirt, "
    "dress, jacket, animal, mammal",
    "child": "person, people, human, kid, boy, girl, baby, toddler, crowd, face, hand, head, hair, "
    "skin, body, player, clothes, clothing, shirt, animal, mammal",
    "dog": "animal, pet, puppy, mammal, canine, hound, wolf, fox, terrier, retriever, poodle",
    "cat": "animal, pet, kitten, mammal, feline, lion, tiger",
    "bird": "animal, duck, goose, chicken, pigeon, eagle, parrot, swan, gull, seagull, owl",
    "horse": "animal, mammal, pony, zebra, donkey, foal",
    "cow": "animal, mammal, cattle, bull, ox, calf, livestock, bison, buffalo",
    "sheep": "animal, mammal, lamb, goat, livestock",
    # vehicles
    "car": "vehicle, automobile, van, taxi, traffic, suv, sedan, wheel, transport",
    "bus": "vehicle, coach, traffic, transport, van",
    "truck": "vehicle, lorry, van, pickup, traffic, transport",
    "train": "vehicle, railway, locomotive, tram, metro, subway, transport",
    "airplane": "vehicle, aeroplane, plane, aircraft, jet, transport",
    "boat": "vehicle, ship, vessel, canoe, kayak, sailboat, yacht, ferry, transport",
    "bicycle": "vehicle, bike, cycle, wheel, cyclist, transport",
    "motorcycle": "vehicle, motorbike, scooter, bike, wheel, transport",
    # indoors
    "table": "furniture, desk, counter, wood",
    "chair": "furniture, seat, stool, bench, armchair, sofa, couch",
    "bed": "furniture, mattress, pillow, blanket, bedding",
    "cabinet": "furniture, cupboard, shelf, wardrobe, drawer, bookcase, dresser",
    "curtain": "drape, blind, fabric, textile, window",
    "screen": "tv, television, monitor, display, computer, laptop, phone, electronics, electronic",
    "food": "meal, fruit, vegetable, pizza, cake, bread, sandwich, banana, apple, orange, meat, "
    "dish, salad, broccoli, carrot, donut, plate, soup, rice",
    "bottle": "container, glass, wine, drink, cup, jar",
    "book": "paper, magazine, text",
    "sign": "traffic sign, text, board, billboard, poster, stop sign, letter",
    "bag": "backpack, handbag, suitcase, luggage, purse, sack",
}


def uncovered_words(asked: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Split the background words by whether the user's words cover them.

    Args:
        asked: the user's words and synonyms.

    Returns:
        The words that stay in the background, and those that were removed.
    """
    wanted = {form for word in asked for form in _forms(word)}
    covered = {
        word for word, covers in TABLE.items() if not wanted.isdisjoint({word, *_split(covers)})
    }
    kept = tuple(word for word in TABLE if word not in covered)
    return kept, tuple(word for word in TABLE if word in covered)


def _split(words: str) -> list[str]:
    return [word.strip() for word in words.split(",")]


_IRREGULAR = {"people": "person", "men": "man", "women": "woman", "children": "child"}
_IRREGULAR |= {"leaves": "leaf", "wolves": "wolf", "shelves": "shelf", "geese": "goose"}


# phrases that are no kind of their last word
_NOT_KINDS = {"hot dog", "corn dog", "hot dogs", "sea lion", "sea horse", "dog house", "doll house"}
_NOT_KINDS |= {"bird house", "mountain lion", "toy car", "toy train", "potato chip", "air plant"}


def _forms(word: str) -> set[str]:
    """A phrase, its last word (a "red car" is a car) and both without a plural ending."""
    phrase = " ".join(word.casefold().split())
    forms = {phrase} if phrase in _NOT_KINDS else {phrase, phrase.split(" ")[-1]}
    for form in tuple(forms):
        head, _, last = form.rpartition(" ")
        singular = {_IRREGULAR.get(last, last), last.removesuffix("s"), last.removesuffix("es")}
        if last.endswith("ies"):
            singular.add(last.removesuffix("ies") + "y")
        forms |= {f"{head} {s}".strip() for s in singular}
    return forms
