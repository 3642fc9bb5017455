/** The vocabulary of the large data set: no quotes and no backslashes in it. */

export const GIVEN =
  words(`Ada Ben Chloé Dmitri Elif Farah Goran Hana Ines Jonas Kaito Lena Marek Nadia Oskar Priya
  Quentin Rosa Sven Tomás Uma Viktor Wanda Ximena Yusuf Zoë Aiko Bruno Carmen Dalia Emil Freya`);

export const FAMILY =
  words(`Lindqvist Okafor Durand Volkov Demir Haddad Petrov Sato Moreno Weber Tanaka Fischer Nowak
  Rahman Berg Sharma Leroy Rossi Larsen García Patel Novák Kowalska Herrera Aydin Visser Mori Costa Ruiz Amrani Krüger Holm`);

export const LOCALES = words('sv-SE en-GB fr-FR de-DE es-ES ja-JP en-US pl-PL');

export const BRAND_FIRST = words('Nord Fern Oku Alder Brass Clay Dune Ember Flint Grove Harbor Iron');
export const BRAND_LAST = words('lys wood mura ware works line field stone craft haus');

/** Each root category with what is sold in it. */
export const SHELVES: Readonly<Record<string, readonly string[]>> = {
  Kitchen: words('mug kettle cutting-board saucepan teapot'),
  Lighting: words('reading-lamp pendant lantern floor-lamp night-light'),
  Garden: words('trowel watering-can planter bench bird-feeder'),
  Office: words('notebook fountain-pen watchMode-tray chair paper-knife'),
  Bedroom: words('pillow quilt alarm-clock blanket nightstand'),
  Bathroom: words('towel soap-dish bath-mat mirror robe'),
  Outdoor: words('tent flask head-torch rucksack hammock'),
  Music: words('metronome guitar-strap music-stand drum-pad tuner'),
};

export const MATERIALS = words(
  'beech oak brass copper enamel linen wool steel cork glass bamboo leather ceramic ash slate',
);
export const COLOURS = words('white black moss rust navy sand charcoal ochre sage plum');

/** From one star to five. */
export const VERDICTS: readonly (readonly string[])[] = [
  ['Came broken and the shop was slow to answer.', 'The handle fell off within a week.'],
  ['Smaller than the picture says.', 'Scratches if you look at it.'],
  ['Does what it should, no more.', 'Fine for the price.'],
  ['Good work, only the box was a mess.', 'We use it every day. One star off for the smell.'],
  [
    'Bought a second one for my sister.',
    'Survived two winters of camping.',
    'Better than the one it replaced.',
  ],
];

export const REMARKS: readonly string[] = [
  'First coffee of the day.',
  'Does anyone know a good repair shop?',
  'The bread held its crust this time.',
  'Rain again, so I tidied the shed.',
  'Finally found the lamp I was looking for.',
  'Notes from the market are up.',
  'That is a fine piece of work.',
  'Where did you get it?',
];

function words(text: string): string[] {
  return text.trim().split(/\s+/);
}
