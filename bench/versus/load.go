package versus

import (
	"context"

	"github.com/picket-ml/picket/bench/models"
)

// Load is what is asked of a server: a model, so many rows a call, and as many calls
// at once as are Outstanding.
type Load struct {
	Model             models.Model
	Rows, Outstanding int
}

// Loads are the loads that servers of gRPC are measured with.
func Loads(served []models.Model) []Load {
	var all []Load
	for _, m := range served {
		for _, rows := range []int{1, 64} {
			for _, outstanding := range []int{1, 16} {
				all = append(all, Load{m, rows, outstanding})
			}
		}
	}
	return all
}

// DemoAndLarge are the models that servers of gRPC are measured with: a small one
// and one of the usual size.
func DemoAndLarge(ctx context.Context) ([]models.Model, error) {
	demo, err := models.Demo(ctx)
	if err != nil {
		return nil, err
	}
	large, err := models.Trained(ctx, 500, 6, 30)
	return []models.Model{demo, large}, err
}
