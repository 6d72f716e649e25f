/* Names that a mistyped one may have meant. */
#ifndef PARE_SIMILAR_H
#define PARE_SIMILAR_H

/* How unlike a word and a name are, both in lower case with hyphens: 0 for the closest that are not
 * equal, -1 if the word hardly means the name. In this order:
 * - a spelling mistake: up to one letter in four added, left out, replaced, or exchanged with its
 *   neighbour
 * - whole parts of the name, as "layers" of num-hidden-layers, or the initials of all its parts, as
 *   "lr" of learning-rate
 * - an abbreviation: some of its letters, the first among them, as "ctx" of context */
int similar_distance(const char *word, const char *name);

#endif
