package generate

// place is a city, with how many of the simulation's people live there, in parts.
type place struct {
	country             string
	latitude, longitude float64
	people              int
}

// places are where customers live and terminals stand: enough countries that a card can be used in a wrong one.
var places = []place{
	{"PT", 38.72, -9.14, 6}, {"PT", 41.15, -8.61, 3}, {"ES", 40.42, -3.70, 8}, {"ES", 41.39, 2.17, 6}, {"ES", 37.39, -5.99, 3},
	{"FR", 48.86, 2.35, 9}, {"FR", 45.76, 4.84, 3}, {"FR", 43.30, 5.37, 3}, {"BE", 50.85, 4.35, 3}, {"NL", 52.37, 4.90, 4},
	{"DE", 52.52, 13.40, 7}, {"DE", 48.14, 11.58, 5}, {"DE", 53.55, 9.99, 4}, {"DE", 50.11, 8.68, 3}, {"AT", 48.21, 16.37, 4},
	{"CH", 47.38, 8.54, 2}, {"IT", 41.90, 12.50, 6}, {"IT", 45.46, 9.19, 5}, {"IT", 40.85, 14.27, 4}, {"PL", 52.23, 21.01, 5},
	{"CZ", 50.08, 14.44, 3}, {"DK", 55.68, 12.57, 2}, {"SE", 59.33, 18.07, 3}, {"IE", 53.35, -6.26, 2}, {"GR", 37.98, 23.73, 4},
}

// kinds are the categories, in the order of api.Categories: how common its merchants are, how much is paid there as a multiple of what the customer usually pays, and whether it is
// a shop of the Internet.
var kinds = []struct {
	common int
	factor float64
	online bool
}{
	{28, 0.7, false}, // grocery
	{10, 1.1, false}, // fuel
	{20, 0.6, false}, // restaurant
	{18, 1.0, false}, // retail
	{4, 3.0, false},  // travel
	{5, 2.5, false},  // electronics
	{9, 0.9, true},   // online
	{2, 0.8, true},   // gambling
	{2, 3.5, false},  // jewelry
	{6, 1.6, false},  // cash
}
